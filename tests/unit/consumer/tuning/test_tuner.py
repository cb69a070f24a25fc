"""The process that searches: begun once, ended with its consumer, and out of everybody's way. Real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from consumer.tuning import tuner as module
from consumer.tuning.tuner import SearchRequest, Tuner, tune_now
from shared.process.exit_codes import TRY_LATER
from shared.settings import Settings
from tests.children import ROOT, clean_environment
from tests.e2e.runtimes.tuned import is_gone
from tests.helpers import eventually

PLACE = Path("/one/place")
WAITS = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"

linux = pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")


@dataclass(frozen=True)
class Script(SearchRequest):
    """An search_request that runs a script instead of a search."""

    script: str = ""

    def command(self) -> list[str]:
        """The script; further options are its arguments."""
        return [sys.executable, "-c", self.script]

    def environment(self) -> Mapping[str, str]:
        """A clean one."""
        return clean_environment()


def search_request(script: str, place: Path = PLACE) -> Script:
    return Script("m", "auto", 3, place, None, script)


def started(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True).start()


@pytest.fixture
def tuner() -> Iterator[Tuner]:
    tuner = Tuner(started, frozenset())
    yield tuner
    tuner.end()


def runs(tuner: Tuner) -> bool:
    return tuner._process is not None


def test_the_process_searches_with_the_threads_of_the_consumer_and_knows_its_parent() -> None:
    real = SearchRequest("m", "bf16", 3, PLACE, 17)
    argv = real.command()
    assert argv[1:] == [
        *("-m", "consumer.tune", "--model", "m", "--precision", "bf16"),
        *("--parent", str(os.getpid()), "--but-not", "17"),
    ]
    assert real.environment()["HEADRACE_TORCH_THREADS"] == "3"


def test_one_at_a_time_and_each_place_once(tuner: Tuner, caplog: pytest.LogCaptureFixture) -> None:
    tuner.begin(search_request(WAITS))
    first = tuner._process
    tuner.begin(search_request(WAITS, Path("/another/place")))
    assert tuner._process is first
    assert first is not None
    with caplog.at_level(logging.WARNING):
        first.kill()
        eventually(lambda: not runs(tuner))
    assert tuner.failure.startswith("The search for the fastest runtime ended by signal 9; the log says why. torch")
    assert tuner.failure in caplog.text
    tuner.begin(search_request(WAITS))
    assert not runs(tuner)
    tuner.begin(search_request(WAITS, Path("/another/place")))
    assert runs(tuner)


def test_a_search_that_somebody_else_makes_is_no_try(tuner: Tuner) -> None:
    busy = search_request(f"raise SystemExit({TRY_LATER})")
    tuner.begin(busy)
    eventually(lambda: not runs(tuner))
    assert (tuner.was_tried(busy), tuner.failure) == (False, "")
    tuner.begin(search_request("raise SystemExit(3)"))
    eventually(lambda: tuner.failure)
    assert "ended with status 3" in tuner.failure
    assert tuner.was_tried(busy)


def test_a_search_that_ends_well_is_no_failure(tuner: Tuner) -> None:
    tuner.begin(search_request("pass"))
    eventually(lambda: not runs(tuner))
    assert tuner.failure == ""


def test_without_processes_there_is_a_sentence(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    tuner.begin(search_request("pass"))
    assert tuner.failure.startswith("The search for the fastest runtime cannot be started: No such file")
    tune_now(search_request("pass"), Settings())


@pytest.mark.parametrize("script", [WAITS, DEAF])
def test_the_end_of_the_consumer_is_the_end_of_the_search(
    tuner: Tuner, monkeypatch: pytest.MonkeyPatch, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "END_S", 0.3)
    tuner.begin(search_request(script))
    process = tuner._process
    assert process is not None
    with caplog.at_level(logging.WARNING):
        tuner.end()
    assert is_gone(process.pid)
    tuner.begin(search_request(WAITS, Path("/another/place")))
    assert not runs(tuner)
    assert [record for record in caplog.records if record.name.startswith("consumer.tuning")] == []


def test_a_consumer_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0)
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    with caplog.at_level(logging.WARNING):
        tune_now(search_request(WAITS), Settings())
    assert "takes too long and is given up; torch serves" in caplog.text


STEP_BACK = """
import os, threading
from consumer.tuning import aside
before = threading.Thread(target=threading.Event().wait, daemon=True)
before.start()
aside.step_back()
aside.move("0")
aside.move("no cores")
for task in os.listdir("/proc/self/task"):
    print(os.getpriority(os.PRIO_PROCESS, int(task)), os.sched_getscheduler(int(task)) == os.SCHED_BATCH)
print(open("/proc/self/oom_score_adj").read().strip())
print(sorted(os.sched_getaffinity(0)))
"""


@linux
def test_a_search_steps_back_with_all_its_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEP_BACK], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:4] == ["19 True", "19 True", "1000", "[0]"]


ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
print(child.pid, flush=True)
sys.stdin.read()
"""
END_WITH = """
import sys, time
from consumer.tuning import aside
aside.LOOK_S, aside.END_S = 0.05, 0.3
{deaf}
aside.end_with(int(sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_search_ends_soon_after_a_parent_that_was_killed(deaf: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, END_WITH.format(deaf=deaf)],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    assert not is_gone(child)
    parent.send_signal(signal.SIGKILL)  # perhaps before the child has even looked
    parent.wait()
    eventually(lambda: is_gone(child), limit_s=30)
    parent.stdin.close()
    parent.stdout.close()

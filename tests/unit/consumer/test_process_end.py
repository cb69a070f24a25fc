"""The end of a process: what was registered runs, and nothing can hold it up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment

SCRIPT = """
import atexit, multiprocessing, os, subprocess, sys, threading
from consumer import process_end
process_end.EXIT_S = 0.2
end = process_end.Ending()
{body}
end.leave(5)
"""
NOTE = "atexit.register(print, 'atexit', flush=True)\n"


def ended(body: str) -> tuple[int, str]:
    """Run a process to its end; returns its status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "body",
    [
        "",
        "threading.Thread(target=threading.Event().wait).start()",
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import concurrent.futures as f; f.ThreadPoolExecutor(1).submit(threading.Event().wait)",
        "multiprocessing.get_context('fork').Process(target=threading.Event().wait).start()",
    ],
)
def test_it_ends_with_its_status_and_what_was_registered_has_run(body: str) -> None:
    status, output = ended(f"{NOTE}{body}")
    assert (status, output.count("atexit\n")) == (5, 1)


def test_a_function_that_hangs_at_exit_does_not_hold_it_up() -> None:
    status, output = ended(f"atexit.register(threading.Event().wait)\n{NOTE}")
    assert (status, output.count("atexit\n")) == (5, 1)


def test_a_function_that_raises_at_exit_does_not_keep_others_from_running() -> None:
    status, output = ended(f"{NOTE}atexit.register(lambda: 1 / 0)")
    assert (status, output.count("atexit\n")) == (5, 1)


def test_processes_are_ended_also_those_that_do_not_want_to() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    body = f"""
child = subprocess.Popen([sys.executable, "-c", {deaf!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""
    status, output = ended(body)
    pid = next(int(line) for line in output.splitlines() if line.isdigit())
    assert status == 5
    assert "is killed" in output
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]

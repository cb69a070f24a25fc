"""Measurements that end early: what was measured is written, what was started is gone, and the exit code says why."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.e2e.loadgen.bench import Bench, make_bench
from tests.helpers import eventually
from tests.proof.null_server import Behaviour, null_server

BUDGETS = """\
[models.null]
mean_ms = 250
rate_per_s = 200
duration_s = 0.5
payload = "photo.jpg"
window_s = 0.1
offline_requests = 30
concurrency = 10

[gate]
pairs = 9
most_pairs = 9
too_noisy = 10
"""
SLOW = Behaviour(delay_s=0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, BUDGETS)


def start(bench: Bench, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start a command; what it prints comes on one pipe."""
    return subprocess.Popen(
        bench.command(*arguments),
        cwd=bench.folder,
        env=bench.environment(PYTHONUNBUFFERED="1", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what a process prints up to a line with this text."""
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if text in line:
            return
    raise AssertionError("".join(shown))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code, and what was printed last."""
    rest, _ = process.communicate(timeout=30)
    return process.returncode, rest


def compare_arguments(base: int, candidate: int) -> list[str]:
    urls = [f"http://127.0.0.1:{port}" for port in (base, candidate)]
    names = ("--base", urls[0], "--candidate", urls[1], "--model", "null", "--budgets", "budgets.toml", "--out", "out")
    return ["compare", *names]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_a_comparison_that_is_stopped_while_it_asks_once_more_keeps_its_pairs(
    bench: Bench, number: signal.Signals, code: int
) -> None:
    """The load is over, and the counters are read for a second, because they lag behind."""
    with (
        null_server(Behaviour(delay_s=0.02, uncounted=1)) as base,
        null_server(SLOW) as candidate,
        start(bench, *compare_arguments(base.port, candidate.port)) as process,
    ):
        read_until(process, "pair  9 of 9")
        eventually(lambda: base.metrics_read >= 3)  # once before the load, the others behind it
        process.send_signal(number)
        assert ended(process)[0] == code
    found = bench.written("compare")
    assert (found["partial"], len(found["pairs"])) == (True, 9)
    assert found["base"]["card"]["name"] == found["candidate"]["card"]["name"] == "null"


@pytest.mark.soak
def test_a_comparison_that_loses_a_side_keeps_its_pairs_and_says_so(bench: Bench) -> None:
    with ExitStack() as held, null_server(SLOW) as base:
        candidate = held.enter_context(null_server(SLOW))
        url = f"http://127.0.0.1:{candidate.port}"
        ran = bench.run("run", "--url", url, "--model", "null", "--budgets", "budgets.toml", "--out", "out")
        assert ran.returncode == 0, ran.stderr
        with start(bench, *compare_arguments(base.port, candidate.port)) as process:
            read_until(process, "pair  1 of 9")
            held.close()
            code, rest = ended(process)
    assert code == 1
    assert f"loadgen: Cannot reach {url}" in rest
    assert "Traceback" not in rest
    found = bench.written("compare")
    assert found["partial"] is True
    assert 1 <= len(found["pairs"]) < 9
    invalid = bench.gate("--compare", "out/compare.json")
    assert invalid.returncode == 20
    assert "The comparison was broken off" in invalid.stdout


@pytest.mark.soak  # a comparison that loses a side is above
def test_a_sweep_that_loses_the_service_keeps_its_points(bench: Bench) -> None:
    rates = ",".join(str(rate) for rate in range(100, 130))
    with ExitStack() as held:
        server = held.enter_context(null_server())
        url = f"http://127.0.0.1:{server.port}"
        shared = ("--url", url, "--model", "null", "--payload", "photo.jpg", "--duration", "200ms", "--out", "out")
        with start(bench, "sweep", "--rates", rates, *shared) as process:
            read_until(process, "100/s  mean")
            held.close()
            code, rest = ended(process)
    assert code == 1
    assert any(line.startswith("loadgen: ") and url in line for line in rest.splitlines())
    assert "Traceback" not in rest
    found = bench.written("sweep")
    assert found["partial"] is True
    assert 1 <= len(found["points"]) < 30
    assert found["points"][0]["rate_per_s"] == 100


def test_a_service_that_was_never_there_leaves_no_result(bench: Bench) -> None:
    shared = ("--model", "null", "--payload", "photo.jpg", "--out", "out")
    for arguments in (
        ("sweep", "--url", "http://127.0.0.1:9", "--rates", "5", *shared),
        ("compare", "--base", "http://127.0.0.1:9", "--candidate", "http://127.0.0.1:9", "--rate", "5", *shared),
    ):
        failed = bench.run(*arguments)
        assert failed.returncode == 1
        assert list((bench.folder / "out").iterdir()) == []


def test_sigterm_while_a_stack_starts_leaves_no_worktree_behind(bench: Bench, tmp_path: Path) -> None:
    """A repository whose stack never gets ready: it says so, and waits for its end."""
    repository, temporary = tmp_path / "repository", tmp_path / "temporary"
    package = repository / "headrace"
    package.mkdir(parents=True)
    temporary.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import signal\nprint('starting', flush=True)\nsignal.pause()\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    for arguments in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message", "first")):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    environment = bench.environment(PYTHONUNBUFFERED="1", TMPDIR=str(temporary))
    options = [
        "--base",
        "git:HEAD",
        "--model",
        "m",
        "--payload",
        str(ROOT / "LICENSE"),
        "--rate",
        "5",
        "--out",
        "out",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "loadgen", "compare", *options],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        log = repository / "out" / "base.log"
        eventually(lambda: log.exists() and "starting" in log.read_text())
        assert list(temporary.glob("headrace-base-*"))
        process.terminate()
        code, rest = ended(process)
    assert (code, rest.splitlines()[-1]) == (143, "loadgen: interrupted.")
    assert list(temporary.iterdir()) == []
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True)
    assert listed.stdout.count("\n") == 1


def test_a_run_that_is_stopped_while_it_asks_once_more_keeps_its_requests(bench: Bench) -> None:
    with null_server(Behaviour(uncounted=1)) as server:
        url = f"http://127.0.0.1:{server.port}"
        arguments = ("run", "--url", url, "--model", "null", "--budgets", "budgets.toml", "--out", "out")
        with start(bench, *arguments) as process:
            eventually(lambda: server.metrics_read >= 3)
            process.send_signal(signal.SIGINT)
            assert ended(process)[0] == 130
    run = bench.written()
    assert (run["partial"], run["counts"]["ok"]) == (True, 100)

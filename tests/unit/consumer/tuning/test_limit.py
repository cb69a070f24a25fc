"""Work is interrupted once it has used up its processor time, and waiting uses none."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from consumer.tuning import limit
from consumer.tuning.limit import is_fine, processor_time
from tests.children import ROOT, clean_environment

INTERRUPTED = """
import signal, time
from consumer.tuning.limit import OutOfTime, processor_time
before, begun_s = signal.getsignal(signal.SIGPROF), time.process_time()
try:
    with processor_time(0.2):
        while True:
            try:
                sum(range(1000))
            except Exception:  # as a library might
                continue
except OutOfTime:
    assert time.process_time() - begun_s >= 0.2
    assert signal.getsignal(signal.SIGPROF) is before
    print("interrupted")
"""
OVER_AT_ONCE = """
import threading
from contextlib import suppress
from consumer.tuning.limit import OutOfTime, processor_time
for _ in range(20):
    with suppress(OutOfTime), processor_time(0.0):  # over at once: the signal comes at any point, or too late
        sum(range(100_000))
assert "processor time" not in {thread.name for thread in threading.enumerate()}
print("not disturbed")
"""


@pytest.mark.parametrize(("script", "told"), [(INTERRUPTED, "interrupted"), (OVER_AT_ONCE, "not disturbed")])
def test_who_computes_for_too_long_is_interrupted_and_nobody_afterwards(script: str, told: str) -> None:
    """In a process of its own: a signal that comes at the wrong time would end that of all other tests."""
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, told), done.stderr


def test_waiting_uses_no_processor_time() -> None:
    with processor_time(0.5):
        assert not threading.Event().wait(0.6)
    assert "processor time" not in {thread.name for thread in threading.enumerate()}


def test_only_the_main_thread_can_be_interrupted() -> None:
    def work() -> int:
        with processor_time(0.0):
            return sum(range(100_000))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == sum(range(100_000))


def test_a_clock_that_runs_in_steps_is_not_fine() -> None:
    assert is_fine()
    assert not is_fine(lambda: 1.0)


def test_with_a_limit_on_processor_time_the_clock_is_asked_before_it_is_used() -> None:
    """On Linux a limit makes the clock coarse; whether it does or not, times of short runs must not be zero."""
    script = """
import resource, time
resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
from consumer.tuning.limit import is_fine
clock = time.process_time if is_fine() else time.perf_counter
took = []
for _ in range(200):
    begun = clock()
    sum(range(30_000))
    took.append(clock() - begun)
assert min(took) > 0, took
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=clean_environment(), check=True)
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] != 600
    assert limit.FINE_S < 0.001

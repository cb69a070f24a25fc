"""A bound on the processor time of a piece of work, whatever it calls [threads, signals].

Only the main thread can be interrupted so, and only between two calls of native code; elsewhere nothing is bounded.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from types import FrameType

LOOK_S = 0.1
FINE_S = 0.0002


class OutOfTime(BaseException):
    """The processor time is used up. No ``Exception``: libraries must not take it for an error of theirs."""


@contextmanager
def processor_time(limit_s: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` inside the block once this process has computed for ``limit_s`` more seconds.

    It may still be raised when the block has just ended.

    A thread looks at the clock. A timer of the kernel on that clock (``setitimer``) would make the clock itself coarse,
    and with it all that is measured meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, end_s, main = threading.Event(), process_time() + limit_s, threading.get_ident()

    def watch() -> None:
        while process_time() < end_s:
            if over.wait(LOOK_S):
                return
        signal.pthread_kill(main, signal.SIGPROF)

    before = signal.signal(signal.SIGPROF, _raise)
    watcher = threading.Thread(target=watch, name="processor time", daemon=True)
    try:
        watcher.start()
        yield
    finally:
        over.set()
        try:
            watcher.join()
        finally:
            signal.signal(signal.SIGPROF, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def is_fine(clock: Callable[[], float] = process_time) -> bool:
    """Say whether a clock of processor time runs while this process does, and not in steps of the kernel's ticks.

    It does not where a timer or a limit (``ulimit -t``) hangs on it.
    """
    begun_s, now_s = clock(), perf_counter()
    while perf_counter() - now_s < FINE_S:
        pass
    return clock() > begun_s

"""[I/O] Ctrl-C and SIGTERM end the process alike, so that stacks are stopped and worktrees removed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import Terminated


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread."""
    signal.signal(signal.SIGTERM, _raise)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers of Ctrl-C and SIGTERM, after an event loop that replaced them.

    uvloop leaves its own handlers behind, which do nothing once it is closed: both signals would be lost from then on.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated

"""[I/O] SIGTERM ends the process as Ctrl-C does, so that stacks are stopped and worktrees removed."""

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
def sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back whom it had, after an event loop that took it for itself: such a loop leaves the default."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated

"""[I/O] Wakes the event loop at an absolute time, good to some hundredths of a millisecond where the system allows it.

Timers of event loops are good to a millisecond. Linux has timers that are files (timerfd_create(2)) and know absolute
times; the loop waits for one as it waits for sockets. Elsewhere the loop's own timer has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Final

_CLOCK_MONOTONIC: Final = 1  # what perf_counter reads on Linux
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE: Final = 1
_RESOLUTION_S: Final = 0.001


class _Spec(ctypes.Structure):
    """`struct itimerspec`: interval and first time, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Alarm:
    """Calls back once for each time it is set; setting it again replaces the time.

    Args:
        ring: what to call. It may set the alarm again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._handle: asyncio.TimerHandle | None = None
        self._file = -1
        self._spec = _Spec(0, 0, 0, 0)
        if sys.platform.startswith("linux"):
            libc = ctypes.CDLL(None, use_errno=True)
            self._set_time = libc.timerfd_settime
            self._file = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._file >= 0:
            loop.add_reader(self._file, self._expired)

    def set(self, due_s: float) -> None:
        """Ring at this time of `perf_counter`, at once if it has passed."""
        if self._file < 0:
            self._handle = self._loop.call_later(max(due_s - perf_counter(), 0.0), self._due, due_s)
            return
        spec = self._spec
        spec.first_s = int(due_s)
        spec.first_ns = max(int((due_s - int(due_s)) * 1e9), 1)  # zero would switch it off
        self._set_time(self._file, _ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _due(self, due_s: float) -> None:
        # The loop counts from when it last looked at its clock: on a busy machine that was long ago, and it is early.
        if perf_counter() < due_s - _RESOLUTION_S:
            self.set(due_s)
        else:
            self._ring()

    def _expired(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._file, 8)
        self._ring()

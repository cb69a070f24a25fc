"""The end of a consumer's process: the interpreter's own, so that what models and libraries arranged for it happens,
but within a bounded time, and with no process of a model left behind [I/O]."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from shared.process import standard_streams

log = logging.getLogger(__name__)

EXIT_S = 3.0
"""Time for what runs at the interpreter's exit. After it whatever that waits for is ended, and after as much again the
process is."""

CHILDREN_S = 1.0
"""Time between asking the processes that a model left to end, and killing them."""

_POLL_S = 0.01
_TRACKER = b"multiprocessing.resource_tracker"
"""Ends by itself when the last process of the family has, and clears up shared memory then."""


class Ending:
    """Ends this process. Make it before anything that registers functions with ``atexit``: its own must run last."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._status: int | None = None
        self._functions_run = threading.Event()
        atexit.register(self._last)

    def leave(self, status: int) -> NoReturn:
        """End with ``status``, as any program does: threads that are no daemons are waited for, then registered
        functions run; both within a bounded time.
        """
        self._status = status
        atexit.register(self._functions_run.set)  # registered last, so it is the first to run
        self._after(EXIT_S, self._hurry)
        self._after(EXIT_S * 2, self._give_up)
        sys.exit(status)

    def _after(self, delay_s: float, step: Callable[[], None]) -> None:
        timer = threading.Timer(delay_s, step)
        timer.daemon = True
        timer.start()

    def _hurry(self) -> None:
        """End what the interpreter waits for: processes, and threads that are no daemons, these before it runs anything
        that was registered."""
        if self._functions_run.is_set():
            end_descendants()
        else:
            log.warning("Threads of the model still run; the consumer ends without waiting for them any longer.")
            atexit._run_exitfuncs()

    def _give_up(self) -> None:
        log.warning("The atexit functions did not end in time; the consumer ends without them.")
        self._last()

    def _last(self) -> None:
        if os.getpid() != self._pid:  # a process that a model forked ends here, too
            return
        end_descendants()
        if self._status is None:  # it ends before it has begun
            return
        with suppress(OSError, ValueError):
            standard_streams.drain()
        # All that was arranged for has happened. The interpreter would now take itself apart, for a second or two with
        # torch, and threads that hang in a model's native code could bring that down.
        os._exit(self._status)


def end_descendants() -> None:
    """End the processes that this one has started, and those that they have: first asked, then killed.

    Only where ``/proc`` tells which they are; elsewhere nothing happens.
    """
    own = [pid for pid in descendants(os.getpid()) if _TRACKER not in _command(pid)]
    for pid in own:
        _send(pid, signal.SIGTERM)
    give_up_s = time.monotonic() + CHILDREN_S
    while any(_is_alive(pid) for pid in own) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
    for pid in own:
        if _is_alive(pid):
            log.warning("Process %d, which the model has started, did not end by itself and is killed.", pid)
            _send(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children and so on, as Linux lists them."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in tasks.read_text().split()]
    return [one for child in found for one in (child, *descendants(child))]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def let_children_end() -> None:
    """Give the processes that a model forks the usual way with signals: they must not drain, as this one does."""

    def reset() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    os.register_at_fork(after_in_child=reset)

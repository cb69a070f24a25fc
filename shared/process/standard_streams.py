"""Standard output and error of our processes: writing to them never raises, and in services never waits for a reader.

The reader may go away, stop reading, have a full disk, or accept only ASCII. None of that may end or block a process
that serves. Lines that cannot be written wait in a bounded buffer, then they are lost and counted. Commands wait
for a slow reader, as every tool in a pipe does, and report at their end if output was lost.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import io
import os
import select
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

MOST_KEPT_BYTES = 1 << 20
PIECE_BYTES = 4096
"""A pipe that counts as writable has room for so much (PIPE_BUF); more might wait for its reader."""
DRAIN_S = 1.0
LEAST_COPY = 512
"""Number of the first private copy, if there may be so many: above those that careless code closes one and all."""


class Outlet:
    """Writes to a file descriptor without ever raising.

    Args:
        descriptor: None leads nowhere.
        patient: wait for a reader that is slow; else what cannot be written at once is kept, and written by a thread.
        most_bytes: of what is kept.

    Attributes:
        failed: the last error of writing; None when there was none.
    """

    def __init__(
        self,
        descriptor: int | None,
        *,
        patient: bool = False,
        most_bytes: int = MOST_KEPT_BYTES,
    ) -> None:
        self._descriptor, self._patient, self._most_bytes = descriptor, patient, most_bytes
        self._kept: deque[bytes] = deque()
        self._kept_bytes = self._lost = 0
        self._changed = threading.Condition()  # of a re-entrant lock: a signal handler may write, too
        self._thread: threading.Thread | None = None
        self.failed: OSError | None = None

    def write(self, data: bytes) -> None:
        """Write, keep, or lose ``data``."""
        if self._descriptor is None:
            return
        if self._patient:
            self._write_all(data)
            return
        with self._changed:
            if self._kept and self._kept_bytes + len(data) > self._most_bytes:
                self._lost += 1
                return
            if self._lost:
                data = b"[%d pieces of output were lost.]\n" % self._lost + data
                self._lost = 0
            rest = data if self._kept else self._write_now(data)
            if rest:
                self._keep(rest)

    def forked(self) -> None:
        """Forget in a child process what its parent keeps, and the thread that writes it."""
        self._changed = threading.Condition()
        self._kept.clear()
        self._kept_bytes, self._thread = 0, None

    def drain(self, limit_s: float = DRAIN_S) -> bool:
        """Wait until nothing is kept, ``limit_s`` at most; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._kept, limit_s)

    def _write_now(self, data: bytes) -> bytes:
        """Write as much as goes without waiting; returns the rest."""
        done = 0  # a view, since cutting the rest off each time would copy it each time
        with memoryview(data) as view:
            while done < len(data) and self._is_writable():
                written = self._put(view[done : done + PIECE_BYTES])
                if written == 0:
                    break
                done += written
        return data[done:]

    def _write_all(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            written = self._put(memoryview(data)[done:])
            done += written
            if written == 0:
                self._is_writable(wait_ms=1000)  # another process has made it non-blocking

    def _is_writable(self, wait_ms: int = 0) -> bool:
        assert self._descriptor is not None
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        try:
            return bool(poll.poll(wait_ms))  # errors count: the write says which
        except OSError:
            return True

    def _put(self, data: memoryview) -> int:
        """Write once; returns how much is done with: what fails is lost, and 0 means that it would have to wait."""
        assert self._descriptor is not None
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.failed = error
            self._lost += 1
            return len(data)

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_kept, name="outlet", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _write_kept(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept)
                data = self._kept[0]  # stays there meanwhile, so that nothing overtakes it
            self._write_all(data)
            with self._changed:
                self._kept.popleft()
                self._kept_bytes -= len(data)
                self._changed.notify_all()


class _Raw(io.RawIOBase):
    """An outlet as the lowest layer of a text stream."""

    def __init__(self, descriptor: int, outlet: Outlet) -> None:
        self._descriptor, self._outlet = descriptor, outlet

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._outlet.write(piece)
        return len(piece)


_outlets: list[Outlet] = []
_kept: list[tuple[int, int]] = []
"""Each standard descriptor, and its private copy. This process itself writes to the copies, so that
others may close or redirect theirs."""


def secure(*, patient: bool = False) -> None:
    """Make this process's standard output and error such streams; called first thing, once.

    Descriptors that are closed lead nowhere from here on, before a socket or file gets their number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    _copy(0)
    sys.stdout = _stream(1, sys.stdout, patient)
    sys.stderr = _stream(2, sys.stderr, patient)
    if not patient:
        atexit.register(drain)
    os.register_at_fork(after_in_child=_forked)


def put_back() -> None:
    """Open those of the standard streams again that were closed since :func:`secure`, by code that is not ours.

    Soon enough, that is before a socket gets their number: libraries write to these without asking.
    """
    for descriptor, copy in _kept:
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                taken = fcntl.fcntl(copy, fcntl.F_DUPFD, descriptor)
                if taken != descriptor:  # another thread was quicker
                    os.close(taken)
    for (number, name), outlet in zip(((1, "stdout"), (2, "stderr")), _outlets, strict=False):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, _text(number, outlet, _encoding_of(stream)))


def own_stderr() -> TextIO | None:
    """Return a stream to standard error that no other code can close; None before :func:`secure`."""
    return _text(2, _outlets[1], _encoding_of(sys.stderr)) if len(_outlets) > 1 else None


def _forked() -> None:
    for outlet in _outlets:
        outlet.forked()


def _stream(descriptor: int, old: TextIO | None, patient: bool) -> TextIO:
    outlet = Outlet(_copy(descriptor), patient=patient)
    _outlets.append(outlet)
    return _text(descriptor, outlet, _encoding_of(old))


def _copy(descriptor: int) -> int:
    for least in (LEAST_COPY, 3):
        with suppress(OSError):
            copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
            _kept.append((descriptor, copy))
            return copy
    return descriptor


def _encoding_of(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _text(descriptor: int, outlet: Outlet, encoding: str) -> TextIO:
    # What the encoding lacks is shown by its number.
    raw: Any = _Raw(descriptor, outlet)  # without a buffer in between, as Python does it with -u
    return io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def drain(limit_s: float = DRAIN_S) -> None:
    """Write out what is kept, for ``limit_s`` at most; for the end of a process."""
    give_up_s = time.monotonic() + limit_s
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # other code removed it, or closed it
            stream.flush()
    for outlet in _outlets:
        outlet.drain(max(0.0, give_up_s - time.monotonic()))


def lost_output() -> str | None:
    """Return a sentence if a command's output got lost; None if not, or if its reader stopped reading on purpose."""
    sys.stdout.flush()
    error = _outlets[0].failed if _outlets else None
    if error is None or error.errno == errno.EPIPE:
        return None
    return f"The output could not be written: {error.strerror or error}."

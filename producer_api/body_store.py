"""A front end's bodies in shared memory [I/O], see :mod:`shared.bodies`.

The file is locked as long as this process lives. What a process that was killed has left behind is nobody's, and goes
when the next front end starts.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from shared.bodies import LEAST_BYTES, MOST_BYTES, STAMP, At, identity_of, open_folder

from .body_slots import Slots

log = logging.getLogger(__name__)

MOST_LEFT_BEHIND = 1000
"""Files that are looked at when a front end starts."""

_TRIES = 3


class BodyStore:
    """Keeps bodies for the consumers of this machine.

    Args:
        name: of the file; no other process has it.
        most_bytes: what bodies may take together; 0 keeps none.

    Attributes:
        identity: which folder this process sees; empty when no body is kept.
    """

    def __init__(self, name: str, most_bytes: int) -> None:
        self.identity = ""
        self._name, self._file, self._path = name, -1, Path()
        self._slots, self._stamp, self._has_complained = Slots(most_bytes), 0, False
        folder = open_folder() if most_bytes else None
        if folder is not None:
            _remove_left_behind(folder)
            with self._complaining():
                self._path = folder / name
                self._file = _locked(self._path)
                self.identity = identity_of(folder)

    @property
    def used_bytes(self) -> int:
        """What the bodies that are kept take."""
        return self._slots.used_bytes

    def put(self, body: bytes) -> At | None:
        """Keep a body; None when it is too small or too large for this, or there is no room."""
        size_bytes = len(body)
        if not self.identity or not LEAST_BYTES <= size_bytes <= MOST_BYTES:
            return None
        offset = self._slots.take(STAMP.size + size_bytes)
        if offset is None:
            return self._put_anew(body)
        self._stamp += 1
        at = At(self._name, offset, size_bytes, self._stamp)
        with self._complaining():
            # Two calls, in this order: whoever still reads what stood here finds another stamp afterwards.
            written = os.pwrite(self._file, STAMP.pack(at.stamp), offset)
            if written == STAMP.size and os.pwrite(self._file, body, offset + STAMP.size) == size_bytes:
                return at
            raise OSError(errno.ENOSPC, "there is no room for a whole body")
        self.drop(at)
        return None

    def _put_anew(self, body: bytes) -> At | None:
        if not self._slots.begin_anew():
            return None
        with self._complaining():
            os.ftruncate(self._file, 0)
            return self.put(body)
        return None

    def drop(self, at: At) -> None:
        """Keep a body no longer."""
        self._slots.give_back(at.offset, STAMP.size + at.size_bytes)

    def close(self) -> None:
        """Keep nothing any more, and leave nothing behind."""
        if self._file >= 0:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file, self.identity = -1, ""

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Go on without what the system refuses: the memory may be full. The body goes through the queue then."""
        try:
            yield
        except OSError as error:
            if not self._has_complained:
                log.warning("Bodies go through the queue, since shared memory cannot be used: %s", error.strerror)
            self._has_complained = True


def _locked(path: Path) -> int:
    """Make a file and lock it.

    Raises:
        OSError: that is not possible.
    """
    for _ in range(_TRIES):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return file
        os.close(file)  # another front end has just taken it for one that was left behind
    raise OSError(0, "another process removes the file")


def _remove_left_behind(folder: Path) -> None:
    with suppress(OSError), os.scandir(folder) as found:
        for one in islice(found, MOST_LEFT_BEHIND):
            with suppress(OSError):
                file = os.open(one.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(one.path)
                finally:
                    os.close(file)

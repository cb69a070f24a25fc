"""A front end's bodies in shared memory [I/O], see :mod:`shared.wire.bodies`.

The file is locked as long as this process lives. If it is killed, the next front end that starts removes the file.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from time import monotonic

from shared.wire.bodies import (
    HEAD_BYTES,
    KEY_BYTES,
    LEAST_BYTES,
    MOST_BYTES,
    STAMP_BYTES,
    At,
    Owner,
    identity_of,
    open_folder,
    stamp_of,
)

from .body_slots import Slots

log = logging.getLogger(__name__)

MOST_LEFT_BEHIND = 1000
"""Most files that a front end checks when it starts."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""How long no body is kept after one that was not read; twice as long each time until one is read."""

_TRIES = 3


class BodyStore:
    """Keeps bodies for the consumers of this machine.

    Args:
        name: of the file, with a number behind it; no other process has it.
        most_bytes: what bodies may take together; 0 keeps none.

    Attributes:
        identity: which folder this process sees; empty when no body is kept.
    """

    def __init__(self, name: str, most_bytes: int) -> None:
        self.identity = ""
        self._file, self._path, self._end = -1, Path(), 0
        self._slots, self._has_complained = Slots(most_bytes), False
        self._resumes_s = self._pause_s = 0.0
        self._key, self._names = b"", (f"{name}-{index}" for index in itertools.count(1))
        if most_bytes:
            self._begin()

    def _begin(self) -> None:
        folder = open_folder()
        if folder is not None:
            _remove_left_behind(folder)
            with self._complaining():
                self._path, self._file = _locked(folder, self._names)
                self._key, self._end = secrets.token_bytes(KEY_BYTES), 0
                os.pwrite(self._file, self._key, 0)
                self.identity = identity_of(folder)

    def was_read(self) -> None:
        """Note that a consumer has read a body."""
        self._pause_s = 0.0

    def was_not_read(self) -> None:
        """Note that a consumer has not: keep none for a while, the longer the more often, or each would be sent twice.

        A consumer died, or is of an older version, or the file was removed or truncated: then make another.
        """
        now_s = monotonic()
        if now_s >= self._resumes_s:
            self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
            self._resumes_s = now_s + self._pause_s
        if self.identity and not self._is_intact():
            log.warning("The file of bodies in shared memory was removed or truncated; making another.")
            self._leave()
            self._begin()

    def _is_intact(self) -> bool:
        with suppress(OSError):
            if os.fstat(self._file).st_nlink:
                return os.pread(self._file, KEY_BYTES, 0) == self._key
        return False

    @property
    def used_bytes(self) -> int:
        """What the bodies that are kept take."""
        return self._slots.used_bytes

    def put(self, body: bytes, owner: Owner) -> At | None:
        """Keep a body of a request; None when it is too small or large for this, there is no room, or it is no use."""
        size_bytes = len(body)
        if not self.identity or not LEAST_BYTES <= size_bytes <= MOST_BYTES or monotonic() < self._resumes_s:
            return None
        place = self._slots.take(STAMP_BYTES + size_bytes)
        if place is None:
            return self._put_anew(body, owner)
        offset = HEAD_BYTES + place
        at = At(self._path.name, offset, size_bytes, stamp_of(self._key, owner, offset, size_bytes))
        if not self._may_end(offset + STAMP_BYTES + size_bytes):
            self.drop(at)
            return None
        with self._complaining():
            # Two calls, in this order: a reader of the previous body finds another stamp afterwards.
            written = os.pwrite(self._file, at.stamp, offset)
            if written == STAMP_BYTES and os.pwrite(self._file, body, offset + STAMP_BYTES) == size_bytes:
                return at
            raise OSError(errno.ENOSPC, "there is no room for a whole body")
        self.drop(at)
        return None

    def _may_end(self, end: int) -> bool:
        """Say whether the file may be as long: others, such as databases, need the memory, too, and die without it.

        As much must stay free as the file takes, so that one takes half of what is free, and two take two thirds.
        """
        if end > self._end:
            with suppress(OSError):
                memory = os.fstatvfs(self._file)
                if memory.f_blocks and memory.f_bavail * memory.f_frsize < end:
                    return False
            self._end = end
        return True

    def _put_anew(self, body: bytes, owner: Owner) -> At | None:
        if not self._slots.begin_anew():
            return None
        with self._complaining():
            os.ftruncate(self._file, HEAD_BYTES)
            self._end = 0
            return self.put(body, owner)
        return None

    def drop(self, at: At) -> None:
        """Keep a body no longer."""
        self._slots.give_back(at.offset - HEAD_BYTES, STAMP_BYTES + at.size_bytes)

    def close(self) -> None:
        """Keep nothing any more, and leave nothing behind."""
        self._leave()

    def _leave(self) -> None:
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


def _locked(folder: Path, names: Iterator[str]) -> tuple[Path, int]:
    """Make a file of the first name that is to be had, and lock it.

    Raises:
        OSError: that is not possible.
    """
    for name in islice(names, _TRIES):
        path = folder / name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return path, file
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

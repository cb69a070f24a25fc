"""How many bytes a folder holds, counted by all processes that use it [I/O].

The count lies in a file of the folder. What changes the folder holds the lock of that file, so that two processes can
never fill the same room. A process that is killed in between leaves a count that is a little wrong, until a sweep.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .store import StoreError

LONGEST_WAIT_S: Final = 5.0
"""For the lock: its holder may be stopped, and others must not stop with it."""

_TRY_EVERY_S = 0.002
_COUNT = struct.Struct("<qq")


class Account:
    """Counts what a folder holds.

    Args:
        file: descriptor of the file with the count, which this object closes.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._thread_lock = threading.Lock()  # flock is for processes: threads share the descriptor

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a change of the folder.

        Raises:
            StoreError: another process does not give it back.
        """
        give_up_s = time.monotonic() + LONGEST_WAIT_S
        if not self._thread_lock.acquire(timeout=LONGEST_WAIT_S):
            raise StoreError("The result store is busy: another thread holds its lock.")
        try:
            while not self._has_locked():
                if time.monotonic() >= give_up_s:
                    raise StoreError("The result store is busy: another process holds its lock.")
                time.sleep(_TRY_EVERY_S)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    def _has_locked(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self) -> tuple[int, int]:
        """Return the bytes, and a number that rises with each change."""
        found = os.pread(self._file, _COUNT.size, 0)
        used_bytes, changes = _COUNT.unpack(found) if len(found) == _COUNT.size else (0, 0)
        return max(0, used_bytes), changes

    def add(self, size_bytes: int) -> None:
        """Count bytes that came, or went when negative. Hold the lock."""
        used_bytes, changes = self.read()
        self._write(max(0, used_bytes + size_bytes), changes + 1)

    def correct(self, used_bytes: int, changes: int) -> bool:
        """Replace the count by what was found, unless the folder has changed since it had ``changes``."""
        with self.held():
            counted, now = self.read()
            if now != changes:
                return False
            if counted != used_bytes:
                self._write(used_bytes, changes)
            return True

    def _write(self, used_bytes: int, changes: int) -> None:
        os.pwrite(self._file, _COUNT.pack(used_bytes, changes), 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

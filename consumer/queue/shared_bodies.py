"""The bodies that front ends of this machine keep in shared memory, as a consumer reads them [I/O]."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shared.wire.bodies import KEY_BYTES, MOST_BYTES, STAMP_BYTES, Owner, identity_of, open_folder, parse, stamp_of

MOST_FILES = 64
"""Kept open, one for each front end. Beyond that the oldest is closed, and opened again when it is needed."""


class _File(NamedTuple):
    """A front end's file: its descriptor, and the key that its stamps are made with."""

    file: int
    key: bytes


class SharedBodies:
    """Reads bodies by where they are. Any thread may call it.

    Args:
        is_on: False reads none, and says so.
    """

    def __init__(self, is_on: bool = True) -> None:
        self._is_on = is_on
        self._folder: Path | None = None
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def identity(self) -> str:
        """Say which folder this process sees, for the front ends; empty for none. Files that are gone are closed."""
        self._folder = open_folder() if self._is_on else None
        with self._lock:
            for name in [name for name, one in self._files.items() if not os.fstat(one.file).st_nlink]:
                os.close(self._files.pop(name).file)
        return "" if self._folder is None else identity_of(self._folder)

    def read(self, text: str, owner: Owner) -> bytes | None:
        """Return the body that a request's ``at`` means; None when it is not there, or not any more, or not its own."""
        at = parse(text)
        if at is None or at.size_bytes > MOST_BYTES or self._folder is None:
            return None
        with self._lock, suppress(OSError):
            found = self._opened(self._folder, at.file)
            if found is not None and at.stamp == stamp_of(found.key, owner, at.offset, at.size_bytes):
                body = os.pread(found.file, at.size_bytes, at.offset + STAMP_BYTES)
                # Afterwards: a front end that has given the slot to another body wrote that body's stamp first.
                stamp = os.pread(found.file, STAMP_BYTES, at.offset)
                if len(body) == at.size_bytes and stamp == at.stamp:
                    return body
        return None

    def _opened(self, folder: Path, name: str) -> _File | None:
        found = self._files.get(name)
        if found is None:
            file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            status, key = os.fstat(file), b""
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                key = os.pread(file, KEY_BYTES, 0)
            if len(key) < KEY_BYTES:
                os.close(file)
                return None
            if len(self._files) >= MOST_FILES:
                os.close(self._files.pop(next(iter(self._files))).file)
            found = self._files[name] = _File(file, key)
        return found

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._files:
                os.close(self._files.popitem()[1].file)

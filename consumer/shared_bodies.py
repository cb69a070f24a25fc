"""The bodies that front ends of this machine keep in shared memory, as a consumer reads them [I/O]."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from shared.bodies import MOST_BYTES, STAMP, identity_of, open_folder, parse

MOST_FILES = 64
"""Kept open, one for each front end."""


class SharedBodies:
    """Reads bodies by where they are. Any thread may call it.

    Args:
        is_on: False reads none, and says so.
    """

    def __init__(self, is_on: bool = True) -> None:
        self._is_on = is_on
        self._folder: Path | None = None
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()

    def identity(self) -> str:
        """Say which folder this process sees, for the front ends; empty for none. Files that are gone are closed."""
        self._folder = open_folder() if self._is_on else None
        with self._lock:
            for name in [name for name, file in self._files.items() if not os.fstat(file).st_nlink]:
                os.close(self._files.pop(name))
        return "" if self._folder is None else identity_of(self._folder)

    def read(self, text: str) -> bytes | None:
        """Return the body that a request's ``at`` means; None when it is not there, or not any more."""
        at = parse(text)
        if at is None or at.size_bytes > MOST_BYTES or self._folder is None:
            return None
        with self._lock, suppress(OSError):
            file = self._opened(self._folder, at.file)
            if file is not None:
                body = os.pread(file, at.size_bytes, at.offset + STAMP.size)
                # Afterwards: a front end that has given the slot to another body wrote that body's stamp first.
                stamp = os.pread(file, STAMP.size, at.offset)
                if len(body) == at.size_bytes and stamp == STAMP.pack(at.stamp):
                    return body
        return None

    def _opened(self, folder: Path, name: str) -> int | None:
        file = self._files.get(name)
        if file is None:
            file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(file).st_mode) or len(self._files) >= MOST_FILES:
                os.close(file)
                return None
            self._files[name] = file
        return file

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._files:
                os.close(self._files.popitem()[1])

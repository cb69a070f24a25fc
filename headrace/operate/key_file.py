"""The file of API keys, and how a key gets into it [I/O: files]."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared import api_keys, files

NEW_FILE_MODE = 0o644
"""Others may read it: it holds hashes, and a front end may run as another user. Write access would grant API access."""


def entry(name: str, key: str) -> str:
    """Return what a file of keys says of a key."""
    return f'[keys.{name}]\nsha256 = "{api_keys.digest_of(key.encode()).hex()}"\n'


def add(path: Path, name: str, key: str) -> None:
    """Add a key to the file, or to a new one; replaces the file in one step, and keeps its owner and permissions.

    Raises:
        FileRefused: it cannot be read; nothing was changed.
        ValueError: the name has a key already, or the file could not be used afterwards; nothing was changed.
        OSError: it cannot be written; nothing was changed.
    """
    place = Path(os.path.realpath(path))  # a link to the file stays one
    with _locked(place.parent):
        old = files.read(place, files.TABLE_BYTES) if place.exists() else b""
        if name in _names(old):
            raise ValueError(f"{path} has a key for {name} already: take that out first, or choose another name.")
        gap = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
        new = old + gap + entry(name, key).encode()
        try:
            api_keys.parse(new.decode())
        except ValueError as error:
            why = "It is not UTF-8." if isinstance(error, UnicodeDecodeError) else error
            raise ValueError(f"{path} is not a file of keys that could be used, so nothing was added. {why}") from None
        _replace(place, new)


def _names(text: bytes) -> set[str]:
    try:
        return {key.name for key in api_keys.parse(text.decode())}
    except ValueError:
        return set()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock out other processes that add a key; locks the folder, because the file is replaced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(place: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old one or the new one."""
    handle, fresh = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            old = place.stat()
            if (old.st_uid, old.st_gid) != (os.stat(fresh).st_uid, os.stat(fresh).st_gid):
                os.chown(fresh, old.st_uid, old.st_gid)
            os.chmod(fresh, stat.S_IMODE(old.st_mode))
        else:
            os.chmod(fresh, NEW_FILE_MODE)
        os.replace(fresh, place)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise

"""The file of API keys, and how a key gets into it [I/O: files]."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from headrace.table import nearest
from shared import api_keys, files

NEW_FILE_MODE = 0o644
"""Others may read it: it holds hashes, and a front end may run as another user. Write access would grant API access."""


def entry(name: str, key: str, console: str | None = None) -> str:
    """Return what a file of keys says of a key.

    Args:
        console: its role on the console, one of ``api_keys.CONSOLE_ROLES``; None for none.
    """
    role = "" if console is None else f'console = "{console}"\n'
    return f'[keys.{name}]\nsha256 = "{api_keys.digest_of(key.encode()).hex()}"\n{role}'


def add(path: Path, name: str, key: str, console: str | None = None) -> None:
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
        new = old + gap + entry(name, key, console).encode()
        try:
            api_keys.parse(new.decode())
        except ValueError as error:
            why = "It is not UTF-8." if isinstance(error, UnicodeDecodeError) else error
            raise ValueError(f"{path} is not a file of keys that could be used, so nothing was added. {why}") from None
        _replace(place, new)


def listed(path: Path) -> tuple[api_keys.ApiKey, ...]:
    """Return the keys of a file.

    Raises:
        FileRefused: it cannot be read.
        ValueError: it is no file of keys.
    """
    return api_keys.parse(files.read_text(path, files.TABLE_BYTES))


def revoke(path: Path, name: str) -> bool:
    """Take a key out of the file, in one step; everything else in it stays as it is.

    A file without keys is none, and front ends would keep the old one: the last key stays, and expires at once.

    Returns:
        Whether the key is out of the file; False when it was the last one.

    Raises:
        FileRefused: it cannot be read; nothing was changed.
        ValueError: there is no such key, or it is written in a way that is not ours; nothing was changed.
        OSError: it cannot be written; nothing was changed.
    """
    place = Path(os.path.realpath(path))
    with _locked(place.parent):
        text = files.read_text(place, files.TABLE_BYTES)
        old = api_keys.parse(text)
        if all(key.name != name for key in old):
            there = [key.name for key in old]
            raise ValueError(f"{path} has no key for {name}; it has {', '.join(there)}.{nearest(name, there)}")
        is_last = len(old) == 1
        new = _expired(text, name) if is_last else _without(text, name)
        wanted = [key for key in old if key.name != name]
        found = _parsed(new)
        if not (len(found) == 1 and found[0].expires_s == 0.0 if is_last else found == wanted):
            raise ValueError(f"{path} does not have {name} in a table [keys.{name}]; take it out by hand.")
        _replace(place, new.encode())
    return not is_last


_EXPIRED: Final = "1970-01-01T00:00:00Z"


def _parsed(text: str) -> list[api_keys.ApiKey]:
    try:
        return list(api_keys.parse(text))
    except ValueError:
        return []


def _table(lines: Sequence[str], name: str) -> tuple[int, int]:
    """Return where the table of a key begins and where the next one does; two equal numbers when there is none."""
    header = re.compile(rf"""\s*\[\s*keys\s*\.\s*["']?{re.escape(name)}["']?\s*\]""")
    begin = next((at for at, line in enumerate(lines) if header.match(line)), len(lines))
    end = next((at for at in range(begin + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    while end > begin + 1 and lines[end - 1].lstrip().startswith("#") and end < len(lines):
        end -= 1  # a comment that stands before the next table is about that one
    return begin, end


def _without(text: str, name: str) -> str:
    lines = text.splitlines(keepends=True)
    begin, end = _table(lines, name)
    return "".join([*lines[:begin], *lines[end:]])


def _expired(text: str, name: str) -> str:
    lines = text.splitlines(keepends=True)
    begin, end = _table(lines, name)
    table = [line for line in lines[begin + 1 : end] if not re.match(r"\s*expires\s*=", line)]
    return "".join([*lines[: begin + 1], f"expires = {_EXPIRED}\n", *table, *lines[end:]])


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

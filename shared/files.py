"""Reads files named in settings and addresses, up to a size limit [I/O]; refuses anything but regular files.

A name may be wrong in every way: a folder, an endless device, a pipe without a writer.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES: Final = 64 << 10
"""Of a password."""

PEM_BYTES: Final = 4 << 20
"""Of certificates or a private key; the list that browsers trust has a quarter of a megabyte."""

TABLE_BYTES: Final = 16 << 20
"""Of a file that is written by hand or by a small program: models, API keys, labels."""

MOST_SHOWN: Final = 1024
"""Characters of a name in a sentence."""

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe, not a regular file"),
    (stat.S_ISSOCK, "it is a socket, not a regular file"),
)


class FileRefused(ValueError):
    """A file cannot be used. The message is the end of a sentence, without a full stop, and does not name the file."""


def read(path: str | Path, most_bytes: int) -> bytes:
    """Return what is in a regular file.

    Raises:
        FileRefused: it cannot be read, is no regular file, or is larger than ``most_bytes``.
    """
    try:
        _check_kind(os.stat(path))  # first: opening some devices has effects
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(handle, "rb") as file:
            _check_kind(os.fstat(handle))
            found = file.read(most_bytes + 1)
    except FileRefused:
        raise
    except OSError as error:
        raise FileRefused(error.strerror or type(error).__name__) from None
    except ValueError:  # a NUL in the name
        raise FileRefused("its name cannot be one") from None
    if len(found) > most_bytes:
        raise FileRefused(f"it is larger than {most_bytes >> 10} KiB")
    return found


def read_text(path: str | Path, most_bytes: int) -> str:
    """As :func:`read`, for text in UTF-8.

    Raises:
        FileRefused: as there, or it is not UTF-8.
    """
    try:
        return read(path, most_bytes).decode()
    except UnicodeDecodeError:
        raise FileRefused("it is not text in UTF-8") from None


def shown(path: str | Path) -> str:
    """Return a name for use in a sentence: on one line, and not too long."""
    name = str(path)
    return name[:MOST_SHOWN] if name.isprintable() else ascii(name[:MOST_SHOWN])


def _check_kind(found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    why = next((why for is_kind, why in _KINDS if is_kind(found.st_mode)), "it is a device, not a regular file")
    raise FileRefused(why)

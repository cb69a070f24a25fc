"""Only its user can read the data folder [I/O]: it holds the bytes of recent requests."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
UMASK = 0o077
"""For processes that make files there."""

OURS = ("redis", "notes", "front-ends", "results", "up.lock")
"""What is in a data folder. Other things in the same folder are left alone, and the folder then, too."""

_OTHERS = 0o077


def make(folder: Path) -> None:
    """Make a folder that only this user can read, unless it exists.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def tighten(data_dir: Path) -> str | None:
    """Take from others the rights that an older version, or a wide umask, has left them in the data folder.

    Returns:
        The sentence that says what was done, or that it cannot be done; None when all was well.
    """
    found = [place for place in _places(data_dir) if stat.S_IMODE(place.lstat().st_mode) & _OTHERS]
    failed = [place for place in found if not _close(place)]
    if failed:
        return f"{failed[0]} can be read by other users, and only its owner can change that: chmod -R go= {data_dir}"
    if found:
        return f"{data_dir} was open to other users; from now on it is yours alone."
    return None


def _places(data_dir: Path) -> Iterator[Path]:
    """Everything that is ours in the folder, links aside; the folder itself when nothing else is in it."""
    names = {entry.name for entry in os.scandir(data_dir)}
    if names <= set(OURS):
        yield data_dir
    for name in sorted(names & set(OURS)):
        if name == "results":  # may hold a million files, which the store makes for their owner alone
            yield data_dir / name
        else:
            yield from _below(data_dir / name)


def _below(place: Path) -> Iterator[Path]:
    if place.is_symlink():
        return
    yield place
    if place.is_dir():
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            yield from _below(Path(entry.path))


def _close(place: Path) -> bool:
    try:
        place.chmod(FOLDER_MODE if place.is_dir() else FILE_MODE)
    except OSError:
        return False
    return True

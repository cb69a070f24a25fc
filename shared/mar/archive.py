"""Unpacks a ``.mar`` archive, which is a zip, and trusts nothing in it [I/O].

A name may lead out of the folder, a link may, and a few bytes may stand for more than a disk holds.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from shared.files import shown

MOST_FILES = 20_000
MOST_RATIO = 100
"""So many times the archive's own size may be what is in it, beside ``SPARE_BYTES``: weights hardly compress."""

SPARE_BYTES = 256 << 20
LEFT_FREE_BYTES = 64 << 20
"""Of the disk."""

_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 1


class ArchiveRefused(ValueError):
    """An archive, or the folder of one, cannot be used; one sentence that names it and the reason."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack all of ``archive`` into the folder ``target``, which is made; nothing stays of it where that fails.

    Raises:
        ArchiveRefused: it is no zip, or holds what leads out of the folder, too much, or what is damaged.
    """
    if not archive.is_file():
        raise ArchiveRefused(f"There is no file {shown(archive)}.")
    if target.exists():
        raise ArchiveRefused(f"{shown(target)} exists already.")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            check(members, archive.stat().st_size, shown(archive.name))
            target.mkdir(parents=True)
            _check_room(sum(one.file_size for one in members), target, shown(archive.name))
            for one in members:
                _extract(opened, one, target)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, ArchiveRefused):
            raise
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
            raise ArchiveRefused(f"{shown(archive.name)} is not a .mar archive, or it is damaged: {error}.") from None
        if isinstance(error, OSError | NotImplementedError | RuntimeError):
            why = getattr(error, "strerror", None) or error
            raise ArchiveRefused(f"{shown(archive.name)} cannot be unpacked into {shown(target)}: {why}.") from None
        raise


def check(members: Sequence[zipfile.ZipInfo], archive_bytes: int, name: str) -> None:
    """Check what an archive says of its members, before any of them is read. Pure.

    Args:
        archive_bytes: size of the archive.
        name: of the archive, for the sentence.

    Raises:
        ArchiveRefused: it is not to be unpacked.
    """
    if len(members) > MOST_FILES:
        raise ArchiveRefused(f"{name} holds {len(members):,} files, and at most {MOST_FILES:,} are unpacked.")
    size, most = sum(one.file_size for one in members), MOST_RATIO * archive_bytes + SPARE_BYTES
    if size > most:
        raise ArchiveRefused(
            f"{name} has {archive_bytes:,} bytes and would become {size:,} unpacked; more than {most:,} is a zip bomb."
        )
    seen: set[str] = set()
    for one in members:
        what = f"{name} holds {one.filename[:200]!r}"
        if not is_inside(one.filename):
            raise ArchiveRefused(f"{what}, a path that leads out of the archive's folder.")
        kind = stat.S_IFMT(one.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveRefused(f"{what}, which is a link or a device and no file.")
        if one.flag_bits & _ENCRYPTED:
            raise ArchiveRefused(f"{what}, which is encrypted.")
        if one.filename in seen:
            raise ArchiveRefused(f"{what} twice.")
        seen.add(one.filename)


def is_inside(name: str) -> bool:
    """Say whether a relative path, with ``/`` between its parts, stays in its folder. Pure."""
    path = PurePosixPath(name)
    has_odd = "\\" in name or ":" in name or not name.isprintable()
    return bool(path.parts) and not (has_odd or path.is_absolute() or ".." in path.parts)


def _check_room(size: int, target: Path, name: str) -> None:
    free = shutil.disk_usage(target).free
    if size + LEFT_FREE_BYTES > free:
        raise ArchiveRefused(f"{name} takes {size:,} bytes unpacked, and the disk of {target} has {free:,} left.")


def _extract(opened: zipfile.ZipFile, one: zipfile.ZipInfo, target: Path) -> None:
    place = target.joinpath(*PurePosixPath(one.filename).parts)
    if one.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    left = one.file_size
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(handle, "wb") as file, opened.open(one) as source:
        while chunk := source.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise ArchiveRefused(f"{one.filename[:200]!r} holds more than it says.")
            file.write(chunk)

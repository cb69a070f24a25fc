"""Unpacks what ``torch-model-archiver --archive-format tgz`` makes: a gzipped tar, with all in one folder [I/O].

It is read once, from its beginning to its end: what it holds becomes known while it is unpacked, and each part is
checked before it is written.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from shared.files import shown

from . import archive
from .archive import ArchiveRefused, is_inside

MAGIC: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 1 << 20
_MANIFEST_FOLDER: Final = "MAR-INF"


class _Bounded:
    """What a gzipped file holds, up to so many bytes: ``tarfile`` reads a header whole, whatever size it claims."""

    def __init__(self, stream: gzip.GzipFile, most: int, name: str) -> None:
        self._stream, self._most, self._name = stream, most, name

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _CHUNK_BYTES:
            raise ArchiveRefused(f"{self._name} has a header of {size:,} bytes.")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        self._check(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, end: int) -> None:
        if end > self._most:
            raise ArchiveRefused(f"{self._name} would become more than {self._most:,} bytes unpacked: a zip bomb.")


def unpack(source: Path, target: Path) -> None:
    """Unpack all of ``source`` into the folder ``target``, which is made; nothing stays of it where that fails.

    Raises:
        ArchiveRefused: it is no gzipped tar, or holds what leads out of the folder, too much, or what is damaged.
    """
    name = shown(source.name)
    if target.exists():
        raise ArchiveRefused(f"{shown(target)} exists already.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as fresh:
            folder = Path(fresh, "archive")
            folder.mkdir()
            _unpack_into(folder, source, name)
            os.rename(_top(folder), target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveRefused(f"{name} is not a .tar.gz archive, or it is damaged: {error}.") from None
    except OSError as error:
        raise ArchiveRefused(f"{name} cannot be unpacked into {shown(target)}: {error.strerror or error}.") from None


def _unpack_into(folder: Path, source: Path, name: str) -> None:
    most = archive.MOST_RATIO * source.stat().st_size + archive.SPARE_BYTES
    with gzip.open(source, "rb") as stream:
        bounded: Any = _Bounded(stream, most, name)
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            count, kept = 0, cast("Any", opened).members
            while (one := opened.next()) is not None:
                kept.clear()  # a long list of them would take memory for nothing
                count += 1
                if count > archive.MOST_FILES:
                    raise ArchiveRefused(f"{name} holds more than {archive.MOST_FILES:,} files.")
                if one.name != ".":
                    _unpack_one(opened, one, folder, f"{name} holds {one.name[:200]!r}")


def _unpack_one(opened: tarfile.TarFile, one: tarfile.TarInfo, folder: Path, what: str) -> None:
    if not is_inside(one.name):
        raise ArchiveRefused(f"{what}, a path that leads out of the archive's folder.")
    if one.sparse is not None or not (one.isreg() or one.isdir()):
        raise ArchiveRefused(f"{what}, which is a link or a device and no file.")
    free = shutil.disk_usage(folder).free
    if one.size + archive.LEFT_FREE_BYTES > free:
        raise ArchiveRefused(f"{what}, which takes {one.size:,} bytes, and the disk of {folder} has {free:,} left.")
    place = folder.joinpath(*PurePosixPath(one.name).parts)
    if one.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    if place.exists():
        raise ArchiveRefused(f"{what} twice.")
    place.parent.mkdir(parents=True, exist_ok=True)
    source = opened.extractfile(one)
    assert source is not None  # it is a file
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(handle, "wb") as file, source:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)


def _top(folder: Path) -> Path:
    """Return the folder that has the manifest: this one, or the only one in it."""
    inside = list(folder.iterdir())
    is_below = len(inside) == 1 and (inside[0] / _MANIFEST_FOLDER).is_dir()
    return inside[0] if is_below else folder

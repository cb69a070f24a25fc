"""Unpacks what ``torch-model-archiver`` makes, a zip or a gzipped tar, told apart by their first bytes [I/O]."""

from __future__ import annotations

from pathlib import Path

from shared.files import shown

from . import archive, tarball
from .archive import ArchiveRefused

_ENDINGS = (".tar.gz", ".tgz", ".mar")


def unpack(source: Path, target: Path) -> None:
    """Unpack all of ``source`` into the folder ``target``, which is made; nothing stays of it where that fails.

    Raises:
        ArchiveRefused: it is neither, or holds what leads out of the folder, too much, or what is damaged.
    """
    try:
        with source.open("rb") as file:
            is_gzip = file.read(len(tarball.MAGIC)) == tarball.MAGIC
    except OSError as error:
        raise ArchiveRefused(f"{shown(source)} cannot be read: {error.strerror or error}.") from None
    (tarball if is_gzip else archive).unpack(source, target)


def stem(source: Path) -> str:
    """Return an archive's name without its ending. Pure."""
    for ending in _ENDINGS:
        if source.name.endswith(ending) and source.name != ending:
            return source.name.removesuffix(ending)
    return source.stem

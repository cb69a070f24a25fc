"""Rows to warm a handler up with: those that its table names, a photograph for one that takes them, or none [I/O]."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path

from shared import files

from .rows import BLANK, BODY, Row

MOST_SAMPLES = 16
MOST_SAMPLE_BYTES = 16 << 20
_SIDE = 256


def find(folder: str | None, *, is_vision: bool) -> Sequence[Row]:
    """Return rows, at least one.

    Args:
        folder: of files, each the body of a request; its type is that of the file's ending.
        is_vision: the handler takes pictures.

    Raises:
        ValueError: the folder cannot be read, or has no files.
    """
    if folder is None:
        return [_picture()] if is_vision else [BLANK]
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and path.name[:1] != ".")
        found = [_of_file(path) for path in paths[:MOST_SAMPLES]]
    except (OSError, files.FileRefused) as error:
        raise ValueError(f"samples: {files.shown(folder)} cannot be read: {error}.") from None
    if not found:
        raise ValueError(f"samples: {files.shown(folder)} has no files.")
    return found


def _of_file(path: Path) -> Row:
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Row("sample", ((BODY, content_type, files.read(path, MOST_SAMPLE_BYTES)),))


def _picture() -> Row:
    import io

    from PIL import Image

    from consumer.models.pictures.samples import pictures

    file = io.BytesIO()
    Image.fromarray(pictures(1, _SIDE, _SIDE)[0]).save(file, "JPEG")
    return Row("sample", ((BODY, "image/jpeg", file.getvalue()),))

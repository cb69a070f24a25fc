"""Which content type a file has, by its first bytes and its name. Pure."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

OCTET_STREAM: Final = "application/octet-stream"
JSON: Final = "application/json"
PLAIN: Final = "text/plain"

_NAMES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": JSON,
    ".msgpack": "application/msgpack",
    ".txt": PLAIN,
    ".bin": OCTET_STREAM,
}
_LOOKED_AT: Final = 4096


def content_type(name: str, body: bytes) -> str:
    """Return the content type of a file.

    Pictures are known by their first bytes, whatever the name says; other files by the end of their name; what has
    neither is JSON or text if it reads like that, else ``application/octet-stream``.

    Args:
        name: of the file, empty for none.
    """
    if (picture := _picture(body)) is not None:
        return picture
    named = _NAMES.get(PurePath(name).suffix.lower())
    if named is not None and not named.startswith("image/"):
        return named
    return _text(body)


def _picture(body: bytes) -> str | None:
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return None


def _text(body: bytes) -> str:
    begins = body[:_LOOKED_AT]
    try:
        text = begins.decode()
    except UnicodeDecodeError as error:
        if len(body) <= _LOOKED_AT or error.start < _LOOKED_AT - 4:
            return OCTET_STREAM
        text = begins[: error.start].decode()  # a character that the end of the piece cuts in two
    if "\0" in text or not text.strip():
        return OCTET_STREAM
    return JSON if text.lstrip()[0] in "{[" else PLAIN

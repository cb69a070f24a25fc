"""The header of a WebP file, whose decoder allocates its canvas as soon as the file is opened. Pure.

Source: the WebP container specification and RFC 6386, section 9.1 (VP8), and RFC 9649 (VP8L).
"""

from __future__ import annotations

from . import orientation
from .decode_cost import MAX_PARTS, Header, damaged, too_many_parts

MADE_BYTES = 16
"""Per pixel: two canvases in the decoder, the frame that it gives back, and Pillow's picture, four bytes each."""


def is_webp(body: bytes) -> bool:
    """Say whether these are the first bytes of one."""
    return body[:4] == b"RIFF" and body[8:12] == b"WEBP"


def read_header(body: bytes) -> Header:
    """Read the canvas, and count the chunks.

    Raises:
        RequestError: damaged, or of too many chunks.
    """
    if len(body) < 30:
        raise damaged("it ends in its header")
    width, height = _canvas(body)
    if not width or not height:
        raise damaged("its size cannot be read")
    exif, xmp = _metadata(body)
    upright = orientation.from_metadata(exif, xmp)
    return Header("WEBP", width, height, body, visits=0, kept_bytes=0, made_bytes=MADE_BYTES, orientation=upright)


def _canvas(body: bytes) -> tuple[int, int]:
    kind = body[12:16]
    if kind == b"VP8X":
        return int.from_bytes(body[24:27], "little") + 1, int.from_bytes(body[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[26:28], "little") & 0x3FFF, int.from_bytes(body[28:30], "little") & 0x3FFF


def _metadata(body: bytes) -> tuple[bytes, bytes]:
    """Return EXIF data and XMP packet, as far as there are some."""
    found: dict[bytes, bytes] = {}
    position = 12
    for _ in range(MAX_PARTS):
        if position + 8 > len(body):
            return found.get(b"EXIF", b""), found.get(b"XMP ", b"")
        kind, size = body[position : position + 4], int.from_bytes(body[position + 4 : position + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            found.setdefault(kind, body[position + 8 : position + 8 + size])
        position += 8 + size + (size & 1)
    raise too_many_parts("chunks")

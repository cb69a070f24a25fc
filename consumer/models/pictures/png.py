"""The header of a PNG file, and the file without its metadata. Pure.

Texts and profiles may be compressed: a file of 10 MB with thousands of them takes half a minute to read. None of them
changes a pixel here.

Source: the PNG specification, third edition, sections 5 and 11.
"""

from __future__ import annotations

import zlib

from . import orientation
from .decode_cost import MAX_PARTS, Header, damaged, too_many_parts

MAGIC = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
MOST_DATA_CHUNKS = 65_536
"""A row of pixels each, at the most."""

MOST_TEXT_BYTES = 1 << 20
POINTER_BYTES = 8
ROW_BYTES = 4
"""Of a pixel in a row that is being decoded, at 8 bits."""

_XMP_KEY = b"XML:com.adobe.xmp"
_RAW_EXIF_KEY = b"Raw profile type exif"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6


class _Metadata:
    """What may say which way up the picture is; the first of each kind counts."""

    def __init__(self) -> None:
        self.exif: bytes | None = None
        self.xmp: bytes | None = None

    def note(self, kind: bytes, data: bytes) -> None:
        if kind == b"eXIf":
            self.exif = data if self.exif is None else self.exif
        elif kind == b"iTXt" and self.xmp is None and data.startswith(_XMP_KEY + b"\0"):
            self.xmp = _international_text(data[len(_XMP_KEY) + 1 :])
        elif kind in (b"zTXt", b"tEXt") and self.exif is None and data.startswith(_RAW_EXIF_KEY + b"\0"):
            text = data[len(_RAW_EXIF_KEY) + 1 :]
            self.exif = _raw_profile(_inflated(text[1:]) if kind == b"zTXt" else text)


def read_header(body: bytes) -> Header:
    """Read a PNG file chunk by chunk.

    Raises:
        RequestError: damaged, or of too many chunks.
    """
    view, kept = memoryview(body), [memoryview(MAGIC)]
    metadata = _Metadata()
    size = b""
    others = data_chunks = 0
    has_transparency = False
    position = len(MAGIC)
    while position + 8 <= len(body):
        kind = body[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(body[position : position + 4], "big")
        if kind == b"IDAT":
            data_chunks += 1
        else:
            others += 1
        if others > MAX_PARTS or data_chunks > MOST_DATA_CHUNKS:
            raise too_many_parts("chunks")
        if kind in _NEEDED:
            kept.append(view[position:end])
        if kind == b"IHDR":
            if size:
                raise damaged("it has two headers")
            size = body[position + 8 : end - 4]
        elif kind == b"IEND":
            break
        elif kind == b"tRNS":
            has_transparency = True
        elif kind not in _NEEDED:
            metadata.note(kind, body[position + 8 : end - 4])
        position = end
    if len(size) < 13:
        raise damaged("it ends in its header")
    return _header(size, b"".join(kept), has_transparency, metadata)


def _header(size: bytes, body: bytes, has_transparency: bool, metadata: _Metadata) -> Header:
    width, height = int.from_bytes(size[:4], "big"), int.from_bytes(size[4:8], "big")
    if not width or not height:
        raise damaged("its size cannot be read")
    made_bytes = _made_bytes(size[8], size[9], has_transparency)
    return Header(
        "PNG",
        width,
        height,
        body,
        visits=0,
        kept_bytes=_edge_bytes(width, height, size[8], made_bytes) / (width * height),
        made_bytes=made_bytes,
        orientation=orientation.from_metadata(metadata.exif or b"", metadata.xmp or b""),
    )


def _made_bytes(bits: int, colours: int, has_transparency: bool) -> int:
    """Return what a pixel takes: as it is decoded, turned into RGB or RGBA, and prepared for resizing."""
    if has_transparency or colours in (_GREY_ALPHA, _RGBA):
        return 12
    if colours == _RGB:
        return 4
    return 1 if (colours, bits) == (_GREY, 8) else 5


def _edge_bytes(width: int, height: int, bits: int, made_bytes: int) -> int:
    """Return what rows take besides their pixels: a pointer each in every picture that is made, and the two that the
    decoder has at hand. It matters where a picture is a single row, or a single column."""
    return POINTER_BYTES * height * -(-made_bytes // 4) + 2 * width * ROW_BYTES * max(8, bits) // 8


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MOST_TEXT_BYTES)
    except zlib.error:
        return b""


def _international_text(data: bytes) -> bytes:
    is_compressed = data[:1] == b"\1"
    _language, _, rest = data[2:].partition(b"\0")
    text = rest.partition(b"\0")[2]
    return _inflated(text) if is_compressed else text


def _raw_profile(text: bytes) -> bytes:
    """Decode a profile as ImageMagick writes it: a name, a length, then hexadecimal digits, line by line."""
    try:
        return bytes.fromhex(b"".join(text[:MOST_TEXT_BYTES].split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""

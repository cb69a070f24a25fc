"""Which way up a picture is, wherever its file says so; Pillow, which reads all of the metadata, agrees."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from consumer.models.pictures import jpeg, orientation, png, webp
from tests.unit.consumer.models.picture_files import chunk, encoded, noise, segment, with_chunks, with_segments

PICTURE = noise(48, 40)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
XMP_SEGMENT = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a picture"
OTHER_EXIF = Image.Exif()
OTHER_EXIF[0x010E] = "a picture without an orientation"
RAW = b"\nexif\n%8d\n" % len(EXIF.tobytes()) + EXIF.tobytes().hex().encode() + b"\n"
FILES = {
    "EXIF in a JPEG": encoded(PICTURE, "JPEG", exif=EXIF),
    "XMP in a JPEG": with_segments(encoded(PICTURE, "JPEG"), XMP_SEGMENT),
    "XMP beside EXIF without it": with_segments(encoded(PICTURE, "JPEG", exif=OTHER_EXIF), XMP_SEGMENT),
    "EXIF in a PNG": encoded(PICTURE, exif=EXIF),
    "XMP in a PNG": with_chunks(encoded(PICTURE), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "compressed XMP in a PNG": with_chunks(
        encoded(PICTURE), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))
    ),
    "a raw profile in a PNG": with_chunks(encoded(PICTURE), chunk(b"tEXt", b"Raw profile type exif\0" + RAW)),
    "a compressed raw profile in a PNG": with_chunks(
        encoded(PICTURE), chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))
    ),
    "EXIF in a WebP": encoded(PICTURE, "WEBP", exif=EXIF),
    "XMP in a WebP": encoded(PICTURE, "WEBP", xmp=XMP),
    "nothing in a JPEG": encoded(PICTURE, "JPEG"),
    "EXIF without it": encoded(PICTURE, "JPEG", exif=OTHER_EXIF),
}


@pytest.mark.parametrize("kind", FILES)
def test_it_is_what_pillow_finds(kind: str) -> None:
    body = FILES[kind]
    read = {b"\xff\xd8": jpeg.read_header, b"\x89P": png.read_header, b"RI": webp.read_header}[body[:2]]
    header = read(body)
    assert header is not None
    with Image.open(io.BytesIO(body)) as picture:
        expected = picture.getexif().get(0x0112, 1)
    assert header.orientation == expected == (1 if "nothing" in kind or kind == "EXIF without it" else 6)


def tiff(order: str, *entries: tuple[int, int, int, int]) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    made = mark + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        made += struct.pack(order + "HHI", tag, kind, count)
        made += struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
    return made


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_both_byte_orders_and_types_are_read(order: str, kind: int) -> None:
    assert orientation.from_exif(tiff(order, (0x010E, 4, 1, 7), (0x0112, kind, 1, 8))) == 8


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        tiff("<", (0x0112, 3, 2, 6)),
        tiff("<", (0x0112, 2, 1, 6)),
        tiff("<", (0x0112, 3, 1, 9)),
        tiff("<", (0x0112, 3, 1, 0)),
        tiff(">", (0x0112, 3, 1, 6))[:-6],
        b"nonsense" * 100,
    ],
)
def test_damaged_data_leave_the_picture_as_it_lies(exif: bytes) -> None:
    assert orientation.from_metadata(exif) == orientation.UPRIGHT


def test_only_the_first_thousand_entries_are_looked_at() -> None:
    entries = [(1, 3, 1, 1)] * orientation.MOST_ENTRIES
    assert orientation.from_exif(tiff("<", *entries[1:], (0x0112, 3, 1, 6))) == 6
    assert orientation.from_exif(tiff("<", *entries, (0x0112, 3, 1, 6))) is None

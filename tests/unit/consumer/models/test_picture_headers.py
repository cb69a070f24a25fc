"""What a picture costs is known from its header and bounded before it is decoded; its metadata cost nothing."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consumer.models.pictures import decode_cost, images, jpeg, png, webp
from shared.wire.outcomes import RequestError
from tests.children import ROOT
from tests.unit.consumer.models.picture_files import (
    chunk,
    encoded,
    noise,
    one_colour_webp,
    png_of,
    scans_of,
    segment,
    with_chunks,
    with_segments,
)
from tests.unit.consumer.models.pictures.test_images import refusal

PHOTOS = Path(__file__).parents[4] / "examples/photos"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_scans_and_samples_of_a_jpeg_are_counted(progressive: bool, subsampling: int) -> None:
    body = encoded(noise(320, 160), "JPEG", progressive=progressive, subsampling=subsampling)
    header = jpeg.read_header(body)
    assert header is not None
    of_a_pixel = header.visits / (320 * 160)
    samples = (3, 2, 1.5)[subsampling]
    # Pillow's progressive files have ten scans: of brightness five, of each colour three, of all together two.
    passes = (4 + 2 * (samples - 1) / 2 * 2) + 2 * samples if progressive else samples
    assert of_a_pixel == pytest.approx(passes, rel=0.01)
    assert header.kept_bytes == (2 * samples if progressive else 0)


def test_small_scans_count_too() -> None:
    few, many = jpeg.read_header(scans_of(8, 8, 10)), jpeg.read_header(scans_of(8, 8, 1000))
    assert few is not None
    assert many is not None
    assert many.visits - few.visits == 990 * jpeg.SCAN_VISITS


def test_scans_times_pixels_have_a_limit() -> None:
    assert "save it as an ordinary (baseline) JPEG" in refusal(scans_of(3000, 3000, 700)).message
    assert images.decode(scans_of(300, 300, 700), 8, 8, "bilinear").shape == (8, 8, 3)


def test_scans_hide_behind_nothing() -> None:
    """Restart markers, stuffed bytes, padding and segments between scans change no count."""
    plain = scans_of(3000, 3000, 700)
    start = plain.index(b"\xff\xda")
    for between in (b"\xff\xd0\xff\xd3", b"\xff\x00", b"\xff\xff\xff", segment(0xE4, b"x"), b"\xff\x01", b"junk"):
        parts = plain[start:].split(b"\xff\xda")
        body = plain[:start] + (between + b"\xff\xda").join(parts)
        assert "scans" in refusal(body).message


def test_what_follows_the_end_of_a_jpeg_is_not_counted() -> None:
    """Phones put films there."""
    body = encoded(noise(64, 64), "JPEG", progressive=True)
    header, longer = jpeg.read_header(body), jpeg.read_header(body + b"\xff\xda\x00\x0c" * 100_000)
    assert header is not None
    assert longer is not None
    assert longer.visits == header.visits


def arithmetic(width: int, height: int) -> bytes:
    """Three colours in one scan; the data have ended before they begin, which the format allows."""
    colours = b"".join(bytes([one, 0x11, 0]) for one in (1, 2, 3))
    frame = struct.pack(">BHHB", 8, height, width, 3) + colours
    scan = b"\x03" + b"\x01\0\x02\0\x03\0" + b"\0\x3f\0"
    tables = segment(0xDB, b"\0" + bytes([1] * 64))
    return b"\xff\xd8" + tables + segment(0xC9, frame) + segment(0xDA, scan) + b"\xff\xd9"


def test_arithmetic_coding_weighs_more() -> None:
    header = jpeg.read_header(arithmetic(800, 800))
    assert header is not None
    assert header.visits == 3 * 800 * 800 * jpeg.ARITHMETIC_WEIGHT
    assert "scans" in refusal(arithmetic(7000, 7000)).message


@pytest.mark.parametrize(("size", "taken"), [((1000, 1000), True), ((4000, 4000), True), ((7000, 7000), False)])
def test_a_webp_of_a_few_bytes_may_be_of_modest_size(size: tuple[int, int], taken: bool) -> None:
    body = one_colour_webp(*size)
    assert len(body) < 64
    if taken:
        assert images.effort(body).memory_bytes == size[0] * size[1] * webp.MADE_BYTES
    else:
        message = refusal(body).message
        assert f"A file of {len(body)} bytes that claims 7000 x 7000 pixels would take 784 MB" in message
    small = images.decode(one_colour_webp(500, 400), 8, 8, "bilinear")
    assert len(np.unique(small.reshape(-1, 3), axis=0)) == 1


def test_a_photograph_of_the_largest_size_is_within_all_bounds() -> None:
    """As JPEG, progressive JPEG, PNG and WebP; the sizes are those of a plain photograph, only the headers are read."""
    for header in (
        decode_cost.Header("JPEG", 7000, 7000, b"", 3 * 49_000_000, 0, 4),
        decode_cost.Header("JPEG", 7000, 7000, b"", 14 * 49_000_000, 6, 4),
        decode_cost.Header("PNG", 7000, 7000, b"", 0, 0, 12),
        decode_cost.Header("WEBP", 7000, 7000, b"", 0, 0, webp.MADE_BYTES),
    ):
        decode_cost.check(header, file_bytes=300_000)
        assert decode_cost.effort_of(header).memory_bytes < 1_000_000_000


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_ordinary_pictures_are_decoded_among_the_others(form: str) -> None:
    assert not images.effort(encoded(noise(1200, 900), form), 256).is_large


def test_the_estimate_knows_that_a_large_jpeg_is_decoded_small() -> None:
    body = encoded(Image.new("RGB", (4000, 3000), (9, 9, 9)), "JPEG")
    assert images.effort(body, 256).memory_bytes == 4 * (4000 // 4) * (3000 // 4)
    assert images.effort(body).memory_bytes == 4 * 4000 * 3000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process in /proc")
@pytest.mark.parametrize(("size", "colour_type"), [((1, 20_000_000), 2), ((20_000_000, 1), 2), ((1, 20_000_000), 0)])
def test_the_estimate_knows_what_single_rows_and_columns_take(size: tuple[int, int], colour_type: int) -> None:
    """Measured in a process of its own, whose peak is not that of other tests."""
    row_bytes = 1 + size[0] * {0: 1, 2: 3}[colour_type]
    packer, data = zlib.compressobj(1), bytearray()
    for _ in range(row_bytes * size[1] // (1 << 20) + 1):
        data += packer.compress(bytes(1 << 20))
    body = png_of(*size, 8, colour_type, bytes(data + packer.flush()))
    code = (
        "import re, sys\nfrom consumer.models.pictures import images\nbody = sys.stdin.buffer.read()\n"
        "def peak_bytes(): return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before_bytes = peak_bytes()\nimages.decode(body, 8, 8, 'bilinear')\nprint(peak_bytes() - before_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 1.1 * images.effort(body).memory_bytes + (16 << 20)


EXIF = Image.Exif()
EXIF[0x0112] = 6
METADATA: dict[str, Callable[[bytes], bytes]] = {
    "a second picture": lambda body: body,
    "a profile": lambda body: with_segments(body, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))),
    "a comment": lambda body: with_segments(body, segment(0xFE, b"hello")),
    "XMP": lambda body: with_segments(body, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")),
    "padding": lambda body: with_segments(body, b"\xff" * 50_000),
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_change_no_pixel(kind: str) -> None:
    photo = (PHOTOS / "cat.jpg").read_bytes()
    changed = METADATA[kind](photo)
    np.testing.assert_array_equal(
        images.decode(changed, 256, 224, "bilinear"), images.decode(photo, 256, 224, "bilinear")
    )


def mpo(picture: Image.Image, **options: Any) -> bytes:
    return encoded(picture, "MPO", save_all=True, append_images=[picture.resize((80, 60))], **options)


@pytest.mark.parametrize("orientation", [None, 6])
def test_a_phones_picture_is_decoded_as_its_jpeg_twin(orientation: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pixels by the same way: at a quarter of its size, which is what makes it fast."""
    picture = noise(2400, 1800)
    options: dict[str, Any] = {"quality": 90} | ({"exif": EXIF.tobytes()} if orientation else {})
    decoded: list[tuple[int, int]] = []
    plain = images._plain

    def noting(opened: Image.Image) -> Image.Image:
        decoded.append(opened.size)
        return plain(opened)

    monkeypatch.setattr(images, "_plain", noting)
    phone = images.decode(mpo(picture, **options), 256, 224, "bilinear")
    twin = images.decode(encoded(picture, "JPEG", **options), 256, 224, "bilinear")
    np.testing.assert_array_equal(phone, twin)
    assert decoded == [(800, 600)] * 2 or decoded == [(1200, 900)] * 2 or decoded == [(600, 450)] * 2


def bombs() -> dict[str, bytes]:
    """Files whose metadata take Pillow seconds or hundreds of megabytes."""
    photo, drawing = encoded(noise(64, 64), "JPEG"), encoded(noise(64, 64))
    zeros = zlib.compress(bytes(1 << 20))
    return {
        "a million empty segments": with_segments(photo, segment(0xE5, b"") * 1_000_000),
        "a hundred thousand tables": with_segments(photo, segment(0xDB, b"\0" + bytes([1] * 64)) * 100_000),
        "a million empty chunks": with_chunks(drawing, chunk(b"abCd", b"") * 1_000_000),
        "ten thousand profiles": with_chunks(drawing, chunk(b"iCCP", b"k\0\0" + zeros) * 10_000),
        "a million pieces of data": with_chunks(drawing, chunk(b"IDAT", b"") * 1_000_000),
    }


def test_too_many_pieces_are_refused() -> None:
    for body in bombs().values():
        assert "save it again without its metadata" in refusal(body).message


def test_what_is_not_needed_never_reaches_the_decoder() -> None:
    zeros = zlib.compress(bytes(1 << 20))
    drawing = encoded(noise(64, 64))
    texts = [chunk(b"zTXt", b"k\0\0" + zeros), chunk(b"iCCP", b"k\0\0" + zeros), chunk(b"iTXt", b"k\0\1\0\0\0" + zeros)]
    assert png.read_header(with_chunks(drawing, b"".join(texts * 60))).body == drawing
    photo = encoded(noise(64, 64), "JPEG")
    header = jpeg.read_header(with_segments(photo, segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 60 + bytes(1_000_000)))
    assert header is not None
    assert header.body == photo


@pytest.mark.parametrize("colour_type", [0, 2, 3, 4, 6])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlace", [0, 1])
def test_any_kind_of_png_is_decoded_or_refused(colour_type: int, bits: int, interlace: int) -> None:
    data = zlib.compress(bytes(20_000))
    body = png_of(30, 20, bits, colour_type, data, interlace)
    try:
        assert images.decode(body, 8, 8, "bilinear").shape == (8, 8, 3)
    except RequestError as error:
        assert "damaged" in error.message or "not a JPEG, PNG" in error.message  # noqa: PT017 - either is an answer


def test_a_palette_picture_without_a_palette_is_damaged() -> None:
    """Its decoder raises an AssertionError, which is on nobody's list."""
    assert refusal(png_of(8, 8, 8, 3, zlib.compress(bytes(72)))).message == "The image is damaged or incomplete."


class Panic(BaseException):
    """As what Rust's extension modules raise."""


@pytest.mark.parametrize("error", [Panic("no"), RecursionError(), AssertionError(), RuntimeError("x"), StopIteration()])
def test_whatever_a_decoder_raises_is_the_pictures_fault(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(picture: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(images, "_plain", breaks)
    assert refusal(encoded(noise(8, 8))).message == "The image is damaged or incomplete."


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_pictures_fault_stays_what_it_is(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(picture: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(images, "_plain", breaks)
    with pytest.raises(type(error)):
        images.decode(encoded(noise(8, 8)), 8, 8, "bilinear")


def test_an_animation_of_too_many_frames_is_refused() -> None:
    frame = b"ANMF" + struct.pack("<I", 24) + bytes(24)
    content = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\x0f\0\0" * 2 + frame * 10_000
    assert "chunks" in refusal(b"RIFF" + struct.pack("<I", len(content)) + content).message


def test_the_first_picture_of_an_animated_png_is_the_one_that_every_viewer_shows() -> None:
    first, second = Image.new("RGB", (32, 32), (200, 40, 40)), Image.new("RGB", (32, 32), (40, 40, 200))
    body = encoded(first, save_all=True, append_images=[second] * 50, duration=10)
    with Image.open(io.BytesIO(body)) as picture:
        assert getattr(picture, "n_frames", 1) > 1
    assert images.decode(body, 8, 8, "bilinear")[4, 4].tolist() == [200, 40, 40]

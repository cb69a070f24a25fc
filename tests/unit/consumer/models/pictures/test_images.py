"""Pictures from strangers: row 35 of the cases of bad input, and every mode decoded right."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consumer.models.pictures import images
from shared.wire.outcomes import INVALID_INPUT, RequestError

Colour = tuple[int, ...]
ROOT = Path(__file__).parents[5]


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, kind: int, data: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, for sizes and depths that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    if extra:
        extra = chunk(b"tRNS", extra)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def webp_canvas(width: int, height: int) -> bytes:
    content = b"\x00" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def centre(body: bytes) -> Colour:
    """Decode to 8 x 8 and return the colour in the middle."""
    pixels = images.decode(body, 8, 8, "bilinear")
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    return tuple(int(value) for value in pixels[4, 4])


def refusal(body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        images.decode(body, 256, 224, "bilinear")
    assert caught.value.outcome is INVALID_INPUT
    assert caught.value.field == "body"
    return caught.value


def quadrants() -> Image.Image:
    """A picture that looks different after every turn and mirror."""
    picture = Image.new("RGB", (96, 64), (250, 250, 250))
    picture.paste((200, 20, 20), (0, 0, 48, 32))
    picture.paste((20, 160, 20), (48, 0, 96, 32))
    picture.paste((20, 20, 200), (0, 32, 48, 64))
    return picture


@pytest.mark.parametrize(
    ("width", "height"),
    [(50_000, 50_000), (10_000, 10_000), (7_100, 7_100)],
    ids=["Pillow refuses", "Pillow warns", "Pillow accepts"],
)
def test_a_huge_png_is_refused_by_its_header(width: int, height: int) -> None:
    body = png(width, height, 8, 2, b"\x00" * 2000)
    assert len(body) < 2000
    # Had the decoder run, it would have found that the data are missing and said so.
    assert "larger than the limit of 50 megapixels" in refusal(body).message


def test_a_huge_webp_is_refused_before_its_canvas_is_made() -> None:
    message = refusal(webp_canvas(16_000, 16_000)).message
    assert "16000 x 16000 pixels is larger than the limit" in message


def test_sizes_of_all_kinds_of_webp_are_read_from_the_header() -> None:
    picture = Image.effect_noise((83, 47), 50).convert("RGB")
    lossy, lossless = encoded(picture, "WEBP"), encoded(picture, "WEBP", lossless=True)
    extended = encoded(picture.convert("RGBA"), "WEBP", exif=Image.Exif())
    for body in (lossy, lossless, extended):
        images.decode(body, 8, 8, "bilinear", max_pixels=83 * 47)
        with pytest.raises(RequestError, match="83 x 47 pixels is larger"):
            images.decode(body, 8, 8, "bilinear", max_pixels=83 * 47 - 1)


@pytest.mark.parametrize(
    "body",
    [
        b"SIMPLE  =                    T / FITS".ljust(2880),
        b"\xff\xfe\x00\x40\x00\x40\x01\xff\xff\xff\xff" + bytes(64 * 64 * 4),
        b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(500),
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        encoded(Image.new("P", (9, 9)), "GIF", save_all=True, append_images=[Image.new("P", (9, 9), 1)]),
        encoded(Image.new("RGB", (9, 9)), "TIFF"),
        encoded(Image.new("RGB", (9, 9)), "BMP"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"plain text",
        b"\xff\xd8\xff",
    ],
    ids=["FITS", "GD", "PSD", "SVG", "animated GIF", "TIFF", "BMP", "EPS", "text", "three bytes of JPEG"],
)
def test_other_formats_are_refused(body: bytes) -> None:
    assert refusal(body).message == "The body is not a JPEG, PNG or WEBP image."


def test_an_empty_body_is_refused() -> None:
    assert "empty" in refusal(b"").message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_picture_is_refused(form: str, share: float) -> None:
    body = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), form)
    refusal(body[: int(len(body) * share)])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_damage_is_refused_or_decoded_but_never_an_internal_error(form: str) -> None:
    body = encoded(Image.effect_noise((60, 60), 80).convert("RGB"), form)
    random = np.random.default_rng(5)
    for _ in range(150):
        damaged = bytearray(body)
        for position in random.integers(0, len(body), 4):
            damaged[position] = int(random.integers(256))
        try:
            images.decode(bytes(damaged), 8, 8, "bilinear")
        except RequestError as error:
            assert error.outcome is INVALID_INPUT  # noqa: PT017 - whether it raises depends on where the damage is


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("1", (20, 20), 1), (255, 255, 255)),
        (Image.new("L", (20, 20), 77), (77, 77, 77)),
        (Image.new("RGB", (20, 20), (10, 120, 230)), (10, 120, 230)),
        (Image.new("RGB", (20, 20), (10, 120, 230)).convert("P", palette=Image.Palette.ADAPTIVE), (10, 120, 230)),
        (Image.new("LA", (20, 20), (0, 0)), (255, 255, 255)),
        (Image.new("LA", (20, 20), (100, 255)), (100, 100, 100)),
        (Image.new("RGBA", (20, 20), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (200, 0, 100, 51)), (244, 204, 224)),
        (Image.fromarray(np.full((20, 20), 0x8001, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((20, 20), 0x00FF, np.uint16)), (0, 0, 0)),
    ],
    ids=["1 bit", "grey", "RGB", "palette", "clear", "opaque grey", "clear RGBA", "RGBA", "16 bits", "dark 16 bits"],
)
def test_every_mode_of_png_is_decoded_right(picture: Image.Image, expected: Colour) -> None:
    assert centre(encoded(picture)) == expected


def test_a_palette_with_a_transparent_colour_is_put_on_white() -> None:
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 200, 30, 30])
    assert centre(encoded(picture)) == (200, 30, 30)
    assert centre(encoded(picture, transparency=1)) == (255, 255, 255)
    assert centre(encoded(picture, transparency=0)) == (200, 30, 30)


def test_grey_and_rgb_with_a_transparent_colour_are_put_on_white() -> None:
    assert centre(encoded(Image.new("L", (20, 20), 9), transparency=9)) == (255, 255, 255)
    assert centre(encoded(Image.new("RGB", (20, 20), (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)
    row = b"\x00" + b"\x12\x34" * 20
    assert centre(png(20, 20, 16, 0, row * 20)) == (0x12, 0x12, 0x12)
    assert centre(png(20, 20, 16, 0, row * 20, extra=b"\x12\x34")) == (255, 255, 255)


def test_sixteen_bits_of_colour_keep_their_upper_eight() -> None:
    row = b"\x00" + struct.pack(">HHH", 0x0A80, 0x7890, 0xE600) * 20
    assert centre(png(20, 20, 16, 2, row * 20)) == (0x0A, 0x78, 0xE6)


def test_cmyk_and_grey_jpegs_are_decoded_right() -> None:
    cmyk = encoded(Image.new("CMYK", (32, 32), (255, 0, 255, 0)), "JPEG", quality=95)
    np.testing.assert_allclose(centre(cmyk), (0, 255, 0), atol=4)
    grey = encoded(Image.new("L", (32, 32), 90), "JPEG", quality=95)
    np.testing.assert_allclose(centre(grey), (90, 90, 90), atol=2)


_UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    upright = quadrants()
    undo = _UNDO[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = images.decode(encoded(stored, form, exif=exif, quality=95), 48, 32, "bilinear").astype(int)
    expected = images.decode(encoded(upright), 48, 32, "bilinear").astype(int)
    for y, x in ((8, 8), (8, 24), (24, 8), (24, 24)):
        np.testing.assert_allclose(decoded[y, x], expected[y, x], atol=12)


def test_unreadable_exif_leaves_the_picture_as_it_lies() -> None:
    body = encoded(Image.new("RGB", (32, 32), (90, 90, 90)), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xffgarbage")
    # In a process of its own, because the test suite turns Pillow's remarks on such metadata into errors.
    program = (
        "import sys; from consumer.models.pictures import images; "
        "print(images.decode(sys.stdin.buffer.read(), 8, 8, 'bilinear')[4, 4].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program], input=body, capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == b"[90, 90, 90]"
    assert done.stderr == b""


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(form: str) -> None:
    first, second = Image.new("RGB", (32, 32), (200, 40, 40)), Image.new("RGB", (32, 32), (40, 40, 200))
    body = encoded(first, form, save_all=True, append_images=[second], duration=100)
    with Image.open(io.BytesIO(body)) as picture:
        assert getattr(picture, "n_frames", 1) == 2
    np.testing.assert_allclose(centre(body), (200, 40, 40), atol=6)


def test_a_jpeg_that_carries_a_second_picture_is_the_first() -> None:
    first, second = Image.new("RGB", (32, 32), (200, 40, 40)), Image.new("RGB", (16, 16), (40, 40, 200))
    body = encoded(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_allclose(centre(body), (200, 40, 40), atol=6)


def test_a_picture_one_pixel_high_stays_small() -> None:
    assert centre(encoded(Image.new("RGB", (200_000, 1), (5, 6, 7)))) == (5, 6, 7)


def test_resize_and_crop_agree_with_torchvision() -> None:
    from torchvision.transforms import v2

    with Image.open(ROOT / "examples/photos/coffee.jpg") as picture:
        square = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(picture.convert("RGB"))
    ours = images.decode((ROOT / "examples/photos/coffee.jpg").read_bytes(), 256, 224, "bilinear")
    assert np.abs(ours.astype(int) - np.asarray(square).astype(int)).mean() < 2


@pytest.mark.parametrize("size", [(640, 512), (1024, 1300), (2100, 2048)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(
    size: tuple[int, int], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(ROOT / "examples" / "photos" / "cat.jpg") as cat:
        large = cat.resize(size, Image.Resampling.LANCZOS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(large, "JPEG", quality=90, exif=exif)
    decoded: list[tuple[int, int]] = []
    plain = images._plain

    def noting(picture: Image.Image) -> Image.Image:
        decoded.append(picture.size)
        return plain(picture)

    monkeypatch.setattr(images, "_plain", noting)
    small = images.decode(body, 120, 112, "bilinear")
    monkeypatch.setattr(images, "_decode_small", lambda picture, resize: None)
    full = images.decode(body, 120, 112, "bilinear")
    assert decoded[1] == size
    assert min(decoded[0]) < min(size)
    assert min(decoded[0]) >= 2 * 120
    difference = np.abs(small.astype(int) - full)
    assert np.percentile(difference, 99.9) <= 3  # a handful of pixels on sharp edges differ by more
    assert difference.mean() < 0.5


def test_nearest_pixels_are_those_of_the_full_picture() -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (900, 900, 3), np.uint8)
    body = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    with Image.open(io.BytesIO(body)) as picture:
        expected = np.asarray(picture)[450:454, 450:454]
    assert images.decode(body, 225, 225, "nearest")[112, 112].tolist() in expected.reshape(-1, 3).tolist()

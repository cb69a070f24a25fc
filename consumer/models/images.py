"""Pictures from strangers: checked by their header, decoded, turned upright and cut to the model's size.

JPEG, PNG and WEBP only; Pillow's other decoders are never tried. The bytes decide which of the three it is, whatever
the content type said. ``docs/models.md`` describes the rules for senders.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The plugins are imported here so that no request finds itself importing them, on any thread.
from PIL import (
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401 - JPEG files of phones that carry a second picture
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from shared.model_config import Preprocessing
from shared.outcomes import RequestError, invalid

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
MAX_PIXELS = 50_000_000
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Filters are set for the whole process, because setting them per request is not safe with threads. A picture that
# Pillow calls a decompression bomb is an error; its remarks on damaged metadata concern nobody here.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode(body: bytes, resize: int, crop: int, interpolation: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture and cut its centre.

    The shorter side is scaled to ``resize`` pixels and the middle ``crop`` x ``crop`` pixels are kept. Both happen in
    one step that only ever makes the small square, so that a picture one pixel high and millions wide costs nothing.
    EXIF orientation is applied to the square, which a turn or a mirror maps onto itself. Transparent parts are put on
    white; grey becomes RGB; 16 bits become the upper 8; of an animation the first frame is taken.

    Returns:
        uint8, shape (crop, crop, 3), RGB.

    Raises:
        RequestError: not a picture of a known format, more than ``max_pixels`` (found before decoding), or damaged.
    """
    if not body:
        raise invalid("The body is empty; it must be a JPEG, PNG or WEBP image.", "body")
    _check_pixels(_webp_canvas(body), max_pixels)
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as picture:
            # No decoder has run yet: width and height come from the header.
            _check_pixels(picture.size, max_pixels)
            if interpolation != "nearest":
                _decode_small(picture, resize)
            square = _centre(_plain(picture), resize, crop, INTERPOLATIONS[interpolation])
            turn = _TRANSPOSE.get(_orientation(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except UnidentifiedImageError:
        raise invalid("The body is not a JPEG, PNG or WEBP image.", "body") from None
    except (ValueError, OSError, SyntaxError, LookupError, TypeError, ArithmeticError, EOFError) as error:
        # Pillow's plugins raise all of these for damaged files, the struct and zlib errors of libraries included.
        raise invalid(f"The image is damaged or incomplete: {_reason(error)}.", "body") from None
    if turn is not None:
        square = square.transpose(turn)
    return np.asarray(_on_white(square))


def read_folder(folder: Path, preprocessing: Preprocessing, most: int = 16) -> list[NDArray[np.uint8]]:
    """Decode the first ``most`` pictures of a folder, by name.

    Raises:
        ValueError: there is no such folder, no picture in it, or one that cannot be decoded.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:most]
    except OSError as error:
        raise ValueError(f"the samples folder {folder} cannot be read: {error.strerror}.") from None
    if not paths:
        raise ValueError(f"the samples folder {folder} holds no {', '.join(SUFFIXES)} file.")
    return [_read_file(path, preprocessing) for path in paths]


def _read_file(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        return decode(path.read_bytes(), preprocessing.resize, preprocessing.crop, preprocessing.interpolation)
    except OSError as error:
        raise ValueError(f"the sample {path} cannot be read: {error.strerror}.") from None
    except RequestError as error:
        raise ValueError(f"the sample {path} is no picture that this model takes: {error}") from None


def _check_pixels(size: tuple[int, int] | None, max_pixels: int) -> None:
    if size is not None and size[0] * size[1] > max_pixels:
        raise _too_many_pixels(max_pixels, size)


def _too_many_pixels(max_pixels: int, size: tuple[int, int] | None = None) -> Exception:
    found = f" of {size[0]} x {size[1]} pixels" if size else ""
    return invalid(f"The image{found} is larger than the limit of {max_pixels / 1e6:g} megapixels.", "body")


def _reason(error: Exception) -> str:
    return (str(error).strip().rstrip(".") or type(error).__name__)[:120]


def _webp_canvas(body: bytes) -> tuple[int, int] | None:
    """Read width and height of a WEBP file, whose decoder allocates its canvas as soon as the file is opened.

    Source: the WebP container specification and RFC 6386, section 9.1 (VP8), and RFC 9649 (VP8L).
    """
    if len(body) < 30 or body[:4] != b"RIFF" or body[8:12] != b"WEBP":
        return None
    kind = body[12:16]
    if kind == b"VP8X":
        return int.from_bytes(body[24:27], "little") + 1, int.from_bytes(body[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[26:28], "little") & 0x3FFF, int.from_bytes(body[28:30], "little") & 0x3FFF


def _decode_small(picture: Image.Image, resize: int) -> None:
    """Let a large JPEG be decoded at a half or a quarter of its size, which its format makes cheap.

    Both sides stay at least twice ``resize``, so that the resizing that follows still does the finer part of the work:
    nearly all pixels are then within three steps of 256 of a full decode. An eighth, the format's coarsest, is not.
    """
    if picture.format == "JPEG":
        least = max(2 * resize, min(picture.size) // 4)
        picture.draft(None, (least, least))


def _plain(picture: Image.Image) -> Image.Image:
    """Decode, and bring every mode to L, RGB or RGBA."""
    picture.load()
    if picture.mode.startswith("I"):
        return _from_16_bits(picture)
    if picture.mode in ("L", "RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits, as Pillow itself does for 16-bit colour; its own way for grey has clipped."""
    values = np.asarray(picture)
    grey = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _centre(picture: Image.Image, resize: int, crop: int, interpolation: Image.Resampling) -> Image.Image:
    width, height = picture.size
    side = min(width, height) * crop / resize
    left, top = (width - side) / 2, (height - side) / 2
    return picture.resize((crop, crop), interpolation, box=(left, top, left + side, top + side))


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) when there is none or it cannot be read."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # Damaged metadata, in whatever way, leaves the picture as it lies; viewers do the same.
        return 1


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")

"""Pictures from strangers: checked by their header, decoded, turned upright and cut to the model's size.

JPEG, PNG and WEBP only; Pillow's other decoders are never tried. The bytes decide which of the three it is, whatever
the content type said. What a picture costs is bounded by its header (``decode_cost.py``) before any decoder runs.
``docs/models.md`` describes the rules for senders.
"""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The plugins are imported here so that no request finds itself importing them, on any thread.
from PIL import (
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from shared import files
from shared.files import FileRefused
from shared.model_config import Preprocessing
from shared.wire.outcomes import RequestError, invalid

from . import jpeg, png, webp
from .decode_cost import MAX_PIXELS, Effort, Header, check, check_pixels, damaged, effort_of, too_many_pixels

log = logging.getLogger(__name__)

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
MOST_SAMPLE_BYTES = 64 << 20
"""Of a picture among a model's samples."""

MOST_SAMPLES = 16
"""As many pictures of a folder of samples are decoded."""

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

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
# Pillow calls a decompression bomb is an error; its remarks on damaged metadata do not matter here.
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
        RequestError: not a picture of a known format, damaged, or more work than
            :mod:`consumer.models.pictures.decode_cost` allows, which is found before decoding.
        MemoryError: there is none left.
    """
    header = _header(body, max_pixels)
    try:
        # The decoder sees no metadata: hostile metadata would take longer than the picture.
        with Image.open(io.BytesIO(header.body), formats=(header.form,)) as picture:
            # No decoder has run yet: width and height come from the header.
            check_pixels(*picture.size, max_pixels)
            if interpolation != "nearest":
                _decode_small(picture, resize)
            square = _centre(_plain(picture), resize, crop, INTERPOLATIONS[interpolation])
    except (RequestError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_many_pixels(max_pixels) from None
    except UnidentifiedImageError:
        raise _unknown() from None
    except (
        BaseException
    ) as error:  # whatever a decoder raises on a stranger's bytes, panics of other languages included
        raise _damaged(error) from None
    turn = _TRANSPOSE.get(header.orientation)
    if turn is not None:
        square = square.transpose(turn)
    return np.asarray(_on_white(square))


def effort(body: bytes, resize: int | None = None, max_pixels: int = MAX_PIXELS) -> Effort:
    """Estimate from the header what :func:`decode` will take.

    Args:
        resize: as for ``decode``; None where the picture is decoded at its full size.

    Raises:
        RequestError: ``decode`` would refuse it by its header.
    """
    header = _header(body, max_pixels)
    return effort_of(header, _scale(header, resize) if resize is not None else 1)


def read_folder(folder: Path, preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
    """Decode the first ``MOST_SAMPLES`` pictures of a folder, by name.

    Raises:
        ValueError: there is no such folder, no picture in it, or one that cannot be decoded.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:MOST_SAMPLES]
    except OSError as error:
        raise ValueError(f"the samples folder {folder} cannot be read: {error.strerror}.") from None
    if not paths:
        raise ValueError(f"the samples folder {folder} holds no {', '.join(SUFFIXES)} file.")
    return [_read_file(path, preprocessing) for path in paths]


def _read_file(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        body = files.read(path, MOST_SAMPLE_BYTES)
        return decode(body, preprocessing.resize, preprocessing.crop, preprocessing.interpolation)
    except FileRefused as error:
        raise ValueError(f"the sample {path} cannot be read: {error}.") from None
    except RequestError as error:
        raise ValueError(f"the sample {path} is no picture that this model takes: {error}") from None


def _header(body: bytes, max_pixels: int) -> Header:
    """Read the header and check what it promises."""
    if not body:
        raise invalid("The body is empty; it must be a JPEG, PNG or WEBP image.", "body")
    header: Header | None = None
    if body.startswith(jpeg.MAGIC):
        header = jpeg.read_header(body)
    elif body.startswith(png.MAGIC):
        header = png.read_header(body)
    elif webp.is_webp(body):
        header = webp.read_header(body)
    if header is None:
        raise _unknown()
    check(header, len(body), max_pixels)
    return header


def _unknown() -> RequestError:
    return invalid("The body is not a JPEG, PNG or WEBP image.", "body")


def _damaged(error: BaseException) -> RequestError:
    if isinstance(error, (OSError, SyntaxError, ValueError)):
        return damaged(str(error).strip().rstrip(".")[:120])
    # Nothing that its sender could make use of, but perhaps a mistake of ours.
    log.info("A decoder raised %s on a picture: %s", type(error).__name__, str(error)[:120])
    return damaged()


def _decode_small(picture: Image.Image, resize: int) -> None:
    """Let a large JPEG be decoded at a half or a quarter of its size, which its format makes cheap.

    Both sides stay at least twice ``resize``, so that the resizing that follows still does the finer part of the work:
    nearly all pixels are then within three steps of 256 of a full decode. An eighth, the format's coarsest, is not.
    """
    if picture.format == "JPEG":
        least = _least(min(picture.size), resize)
        picture.draft(None, (least, least))


def _least(side: int, resize: int) -> int:
    return max(2 * resize, side // 4)


def _scale(header: Header, resize: int) -> int:
    """Say how many times smaller :func:`_decode_small` has each side made, as ``draft`` chooses it."""
    if header.form != "JPEG":
        return 1
    side = min(header.width, header.height)
    most = side // _least(side, resize)
    return next((scale for scale in (4, 2) if scale <= most), 1)


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


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")

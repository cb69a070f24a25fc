"""Pictures made from a seed: inputs for warming up and for comparing precisions, the same ones every time."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SEED = 1867
_SHAPES = 24

Floats = NDArray[np.float32]


def pictures(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Return ``count`` uint8 arrays of shape (height, width, 3), read-only.

    They share what photographs have in common and noise has not: a spectrum that falls with frequency, colours that
    follow the brightness, and things with edges that cover one another. A network's layers then work in the range
    that they were made for, and a comparison of precisions says something about real inputs.
    """
    return [_picture(index, height, width) for index in range(count)]


def jpeg(side: int) -> bytes:
    """Return the first of them as a file, of ``side`` x ``side`` pixels."""
    file = io.BytesIO()
    Image.fromarray(_picture(0, side, side)).save(file, "JPEG", quality=60)
    return file.getvalue()


@lru_cache(maxsize=32)  # a start asks for the same ones a dozen times, at 10 ms each
def _picture(index: int, height: int, width: int) -> NDArray[np.uint8]:
    random = np.random.default_rng((_SEED, index))
    light = _clouds(random, height, width)[..., None]
    colour = np.stack([_clouds(random, height, width) for _ in range(3)], axis=-1)
    picture = (random.uniform(70, 180, 3) + light * random.uniform(20, 50) + colour * 12).astype(np.float32)
    for _ in range(_SHAPES):
        _lay_ellipse(random, picture)
    picture += random.normal(0, 3, picture.shape)
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def _clouds(random: np.random.Generator, height: int, width: int) -> Floats:
    """Return noise whose amplitude falls as 1/frequency, with mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(random.normal(size=(height, width))) / frequency
    field = np.fft.irfft2(spectrum, s=(height, width))
    even: Floats = ((field - field.mean()) / max(float(field.std()), 1e-6)).astype(np.float32)
    return even


def _lay_ellipse(random: np.random.Generator, picture: Floats) -> None:
    """Cover a part of ``picture`` with an ellipse; small ones are more frequent than large ones."""
    height, width = picture.shape[:2]
    radius = 0.03 / (1 - 0.92 * random.random()) * max(height, width)
    middle_y, middle_x = random.uniform(0, height), random.uniform(0, width)
    top, left = max(0, int(middle_y - radius)), max(0, int(middle_x - radius))
    part = picture[top : int(middle_y + radius) + 1, left : int(middle_x + radius) + 1]
    y = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None] - middle_y
    x = np.arange(left, left + part.shape[1], dtype=np.float32)[None, :] - middle_x
    angle, flatness = random.uniform(0, np.pi), random.uniform(1, 3)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = along**2 + (across * flatness) ** 2 < radius**2
    shade = along[..., None] / radius * random.normal(0, 30)
    part[inside] = (random.uniform(20, 235) + random.normal(0, 30, 3) + shade)[inside]

"""Thousands of damaged pictures from a seed: each is decoded or refused with a sentence, and nothing else happens."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consumer.models.pictures import decode_cost, images
from shared.wire.outcomes import INVALID_INPUT, RequestError
from tests.unit.consumer.models.picture_files import encoded, noise, one_colour_webp, png_of, scans_of

PICTURE = noise(48, 40)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "a picture"
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [noise(48, 40, seed) for seed in (1, 2)]}
SEEDLINGS = {
    "JPEG": encoded(PICTURE, "JPEG", exif=EXIF),
    "progressive JPEG": encoded(PICTURE, "JPEG", progressive=True, subsampling=0),
    "JPEG of restarts": encoded(PICTURE, "JPEG", restart_marker_blocks=2),
    "grey JPEG": encoded(PICTURE.convert("L"), "JPEG"),
    "CMYK JPEG": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "many scans": scans_of(48, 40, 20),
    "MPO": encoded(PICTURE, "MPO", exif=EXIF, **FRAMES),
    "PNG": encoded(PICTURE, exif=EXIF),
    "palette PNG": encoded(PICTURE.convert("P"), transparency=3),
    "16-bit PNG": encoded(Image.fromarray(np.full((40, 48), 0x8001, np.uint16))),
    "1-bit PNG": encoded(PICTURE.convert("1")),
    "grey and alpha PNG": encoded(PICTURE.convert("LA")),
    "interlaced PNG": png_of(48, 40, 8, 2, b"x\x9c" + bytes(300), interlace=1),
    "animated PNG": encoded(PICTURE, **FRAMES),
    "WebP": encoded(PICTURE, "WEBP", exif=EXIF),
    "lossless WebP": encoded(PICTURE.convert("RGBA"), "WEBP", lossless=True),
    "one colour": one_colour_webp(48, 40),
    "animated WebP": encoded(PICTURE, "WEBP", **FRAMES),
    "GIF": encoded(PICTURE, "GIF", **FRAMES),
    "TIFF": encoded(PICTURE, "TIFF"),
    "BMP": encoded(PICTURE, "BMP"),
    "ICO": encoded(PICTURE, "ICO"),
}


def damaged(body: bytes, random: np.random.Generator) -> bytes:
    """Change bytes, cut pieces out, double them, cut the end off; mostly at the beginning, where the header is."""
    made = bytearray(body)
    for _ in range(int(random.integers(1, 5))):
        reach = len(made) if random.random() < 0.5 else min(len(made), 80)
        if reach < 2:
            break
        start = int(random.integers(reach))
        end = start + int(random.integers(1, 40))
        way = random.integers(6)
        if way <= 2:
            made[start] = int(random.choice((0, 1, 0x7F, 0x80, 0xD8, 0xDA, 0xFF, int(random.integers(256)))))
        elif way == 3:
            del made[start:end]
        elif way == 4:
            made[start:start] = made[start:end]
        else:
            del made[len(made) - int(random.integers(len(made) // 2 + 1)) :]
    return bytes(made)


def try_all(kind: str, count: int, seed: int) -> Counter[str]:
    random = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    for _ in range(count):
        body = damaged(SEEDLINGS[kind], random)
        try:
            if images.effort(body).seconds > 0.05:
                ends["slow"] += 1  # its header claims more than a test should decode; it would be decoded
                continue
            images.decode(body, 8, 8, "bilinear", max_pixels=decode_cost.MAX_PIXELS)
            ends["decoded"] += 1
        except RequestError as error:
            assert error.outcome is INVALID_INPUT  # noqa: PT017 - whether it raises depends on where the damage is
            assert error.field == "body"  # noqa: PT017
            assert error.message.endswith(".")  # noqa: PT017
            ends["refused"] += 1
    return ends


@pytest.mark.parametrize("kind", SEEDLINGS)
def test_damage_is_refused_or_decoded_and_nothing_else(kind: str) -> None:
    ends = try_all(kind, 500, seed=11)
    assert ends["refused"] > 0
    assert ends.total() == 500


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SEEDLINGS)
@pytest.mark.parametrize("seed", range(4))
def test_much_more_damage_is_refused_or_decoded(kind: str, seed: int) -> None:
    assert try_all(kind, 10_000, seed).total() == 10_000

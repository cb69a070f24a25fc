"""The oldest versions of libraries that are safe for what a hostile client may send. Pure."""

from __future__ import annotations

import re

OLDEST_LIBRARIES = {
    "msgpack": "1.2.3",  # older ones leak memory on malformed maps
    "starlette": "1.3.1",
    "python-multipart": "0.0.27",  # not used today; in case it comes in
    "pillow": "12.3",  # decoders of hostile pictures
    "torch": "2.10",  # loading weights only, without running code
}
"""Distribution name to the oldest version."""

OLDEST_REDIS = "7.0"
OLDEST_VALKEY = "8.0"


def is_below(version: str, oldest: str) -> bool:
    """Say whether ``version`` is older than ``oldest``; only the numbers before any suffix count."""
    return _numbers(version) < _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return (*numbers, *[0] * (4 - len(numbers)))

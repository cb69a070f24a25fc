"""The orientation of a picture, from EXIF, without reading any other metadata. Pure."""

from __future__ import annotations

import re
from typing import Literal

UPRIGHT = 1
_TAG = 0x0112
_ENTRY_BYTES = 12
_SIZES = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT and LONG; no other type is a small whole number
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
MOST_ENTRIES = 1000
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
MOST_XMP_BYTES = 65_536


def from_exif(exif: bytes) -> int | None:
    """Return the orientation that EXIF data name in their first directory; None when they name none.

    Damaged data name none: the picture is left as it lies, as viewers do.

    Args:
        exif: a TIFF header and what follows, with or without ``Exif`` and two zeros before it.

    Source: TIFF 6.0, section 2; Exif 2.3, section 4.6.4.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(exif[:4])
    if order is None:
        return None

    def number(start: int, size: int) -> int:
        return int.from_bytes(exif[start : start + size], order)

    first = number(4, 4)
    for index in range(min(number(first, 2), (len(exif) - first - 2) // _ENTRY_BYTES, MOST_ENTRIES)):
        entry = first + 2 + index * _ENTRY_BYTES
        if number(entry, 2) == _TAG:
            size = _SIZES.get(number(entry + 2, 2))
            return number(entry + 8, size) if size and number(entry + 4, 4) == 1 else None
    return None


def from_metadata(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, of EXIF data or else of an XMP packet; upright when neither names one."""
    named = from_exif(exif)
    if named is None and (found := _XMP.search(xmp[:MOST_XMP_BYTES])):
        named = int(found[1])
    return named if named is not None and 1 <= named <= 8 else UPRIGHT

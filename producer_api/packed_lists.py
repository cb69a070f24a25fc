"""Lists of elements in msgpack, long ones a few thousand elements at a time, so that never all of them are objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgpack
import msgspec

from shared.outcomes import RequestError, invalid

from .blame import from_validation
from .elements import list_type, pack_elements
from .steps import Steps

AT_ONCE = 4096
"""Elements of one step."""


def depth_of(raw: bytes | memoryview, most: int) -> int:
    """Return how many lists stand within each other at the start of a msgpack value, at most so many; 1 for none."""
    at, depth = 0, 0
    while depth < most and at < len(raw):
        kind = raw[at]
        if 0x90 <= kind <= 0x9F:
            at += 1
        elif kind in (0xDC, 0xDD):
            at += 3 if kind == 0xDC else 5
        else:
            break
        depth += 1
        if kind == 0x90:
            break
    return depth or 1


def packed(
    raw: bytes | memoryview, datatype: str, shape: Sequence[int], depth: int, count: int, path: str
) -> Steps[bytes]:
    """Check a list of elements and pack them.

    Args:
        raw: one whole value in msgpack.
        shape: as it was given; a nested list has its sizes.
        depth: of the list, 1 or the length of ``shape``.
        count: elements that the shape takes.
        path: where the list stands in the request.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    sizes = [count] if depth == 1 else list(shape)
    texts = len(raw) if datatype == "BYTES" else 0
    # Elements are no lists and no maps: those are refused by their length, before anything in them is made.
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(raw), max_array_len=0, max_map_len=0, max_str_len=texts, max_bin_len=0, max_ext_len=0
    )
    unpacker.feed(raw)
    parts: list[bytes] = []
    waiting: list[Any] = []
    leaves_of = [math.prod(sizes[level:-1]) for level in range(len(sizes))]
    for leaf in range(leaves_of[0]):
        for size, leaves in zip(sizes, leaves_of, strict=True):
            if leaf % leaves == 0:  # a list begins, the outermost first
                _open(unpacker, size, sizes, path)
        left = sizes[-1]
        while left > 0:
            some = _some(unpacker, min(left, AT_ONCE - len(waiting)), path)
            left -= len(some)
            waiting += some
            if len(waiting) >= AT_ONCE:
                parts.append(_pack(datatype, waiting, path))
                waiting.clear()
                yield
    if unpacker.tell() != len(raw):  # a list at the end is shorter on paper than it is
        raise invalid(f"Data is not nested like the shape {list(shape)}.", path)
    parts.append(_pack(datatype, waiting, path))
    return b"".join(parts)


def _open(unpacker: msgpack.Unpacker, size: int, sizes: Sequence[int], path: str) -> None:
    try:
        found = unpacker.read_array_header()
    except (ValueError, msgpack.UnpackException):
        found = -1
    if found != size and found >= 0 and len(sizes) == 1:
        raise invalid(f"Data holds {found} elements, but the shape takes {size}.", path)
    if found != size:
        raise invalid(f"Data is not nested like the shape {list(sizes)}.", path)


def _some(unpacker: msgpack.Unpacker, count: int, path: str) -> list[Any]:
    try:
        some = list(islice(unpacker, count))
    except (ValueError, msgpack.UnpackException) as error:
        raise _no_element(error, path) from None
    if not some:
        raise invalid("Data ends before its last element.", path)
    return some


def _no_element(error: Exception, path: str) -> RequestError:
    what = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else "what is no element"
    return invalid(f"Data holds {what}.", path)


def _pack(datatype: str, values: list[Any], path: str) -> bytes:
    try:
        return pack_elements(datatype, msgspec.convert(values, list_type(datatype, 1)))
    except msgspec.ValidationError as error:
        raise from_validation(error, path) from None
    except OverflowError:
        raise invalid(f"An element is out of range for {datatype}.", path) from None

"""The elements of tensors: packed as little-endian bytes, unpacked, and looked at, without numpy. Pure."""

from __future__ import annotations

import struct
import sys
import types
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from math import isfinite
from typing import Annotated, Any

from msgspec import Meta

from shared.state.cards import ITEM_BYTES

from .steps import Steps

_CODES = {
    "BOOL": "B",
    "INT8": "b",
    "UINT8": "B",
    "UINT16": "H",
    "INT16": "h",
    "UINT32": "I",
    "INT32": "i",
    "UINT64": "Q",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
_FP32_MAX = 3.4028234663852886e38
_FP64_MAX = sys.float_info.max
_ELEMENTS: dict[str, Any] = {
    "BOOL": bool,
    "UINT8": Annotated[int, Meta(ge=0, le=2**8 - 1)],
    "INT8": Annotated[int, Meta(ge=-(2**7), le=2**7 - 1)],
    "UINT16": Annotated[int, Meta(ge=0, le=2**16 - 1)],
    "INT16": Annotated[int, Meta(ge=-(2**15), le=2**15 - 1)],
    "UINT32": Annotated[int, Meta(ge=0, le=2**32 - 1)],
    "INT32": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "UINT64": int,
    "INT64": int,
    "FP16": Annotated[float, Meta(ge=-65504.0, le=65504.0)],
    "FP32": Annotated[float, Meta(ge=-_FP32_MAX, le=_FP32_MAX)],
    "FP64": Annotated[float, Meta(ge=-_FP64_MAX, le=_FP64_MAX)],
    "BYTES": str,
}

PIECE_BYTES = 512 * 1024
"""What is looked at in one step; whole elements."""

# An exponent of ones is what makes a number NaN or infinite. By datatype: the bits of it in the highest byte, and in
# the one below.
_EXPONENTS = {"FP16": (0x7C, 0x00), "FP32": (0x7F, 0x80), "FP64": (0x7F, 0xF0)}


@cache
def list_type(datatype: str, depth: int) -> Any:
    """Return the type of a list of elements, nested ``depth`` levels deep, as msgspec takes it."""
    nested = _ELEMENTS[datatype]
    for _ in range(depth):
        nested = types.GenericAlias(list, (nested,))
    return nested


def pack_elements(datatype: str, values: Sequence[Any]) -> bytes:
    """Pack elements as little-endian bytes; BYTES elements get a 4-byte length each.

    Raises:
        OverflowError: an element does not fit the datatype.
    """
    if datatype == "BYTES":
        parts = [value.encode() for value in values]
        return b"".join(chain.from_iterable((len(part).to_bytes(4, "little"), part) for part in parts))
    if datatype == "FP16":
        return struct.pack(f"<{len(values)}e", *values)
    packed = array(_CODES[datatype], values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_elements(datatype: str, data: bytes) -> list[Any]:
    """Return the elements of a tensor's little-endian bytes; numbers that are not finite become None."""
    if datatype == "BYTES":
        return _strings(data)
    if datatype == "UINT8":
        return list(data)
    if datatype == "FP16":
        values: list[Any] = list(struct.unpack(f"<{len(data) // 2}e", data))
    else:
        numbers = array(_CODES[datatype])
        numbers.frombytes(data)
        if sys.byteorder == "big":
            numbers.byteswap()
        values = numbers.tolist()
    if datatype == "BOOL":
        return [value != 0 for value in values]
    if not is_finite(datatype, data):
        return [value if isfinite(value) else None for value in values]
    return values


def element_parts(datatype: str, data: bytes, at_once: int, texts_at_once: int) -> Iterator[bytes]:
    """Cut a tensor's bytes into parts of at most so many elements."""
    if datatype != "BYTES":
        size = ITEM_BYTES.get(datatype, 1) * at_once
        yield from (data[start : start + size] for start in range(0, len(data), size))
        return
    start = position = count = 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "little")
        count += 1
        if count == texts_at_once or position >= len(data):
            yield data[start:position]
            start, count = position, 0


def _strings(data: bytes) -> list[str]:
    texts, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        texts.append(data[position + 4 : end].decode("utf-8", "replace"))
        position = end
    return texts


def is_finite(datatype: str, data: bytes) -> bool:
    """Say whether little-endian elements hold neither NaN nor an infinity; always true for integers.

    No element is made a number: they would take many times the room of the bytes. The highest bytes of all elements
    tell in nearly every case; otherwise those that have all bits of an exponent are found with one AND of two integers
    as long as the tensor has elements.
    """
    if not datatype.startswith("FP"):
        return True
    size, (in_high, in_next) = ITEM_BYTES[datatype], _EXPONENTS[datatype]
    high = data[size - 1 :: size]
    if datatype != "FP16" and 0x7F not in high and 0xFF not in high:
        return True
    suspects = high.translate(_having(in_high))
    if in_next:
        suspects = _both(suspects, data[size - 2 :: size].translate(_having(in_next)))
    return 1 not in suspects


def is_finite_in_steps(datatype: str, data: bytes) -> Steps[bool]:
    """As :func:`is_finite`, with pauses where there are many elements."""
    if len(data) <= PIECE_BYTES or not datatype.startswith("FP"):
        return is_finite(datatype, data)
    for start in range(0, len(data), PIECE_BYTES):
        if not is_finite(datatype, data[start : start + PIECE_BYTES]):
            return False
        yield
    return True


@cache
def _having(bits: int) -> bytes:
    """Return the table that makes 1 of each byte that has all these bits, else 0."""
    return bytes(int(byte & bits == bits) for byte in range(256))


def _both(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") & int.from_bytes(other, "little")).to_bytes(len(one), "little")

"""The encoding of protobuf, as far as it takes to cut a message into its parts without making objects of them. Pure.

protobuf's own parser makes everything that a message holds, at once: an empty submessage of two bytes becomes an object
of a hundred. So a message is cut first, the parts are counted, and the parser gets what is short enough.

Source: the "Encoding" page of the protobuf documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_LONGEST_VARINT: Final = 10


class Part(NamedTuple):
    """One field of a message.

    Attributes:
        number: of the field.
        kind: its wire type.
        begin, start, stop: where its tag, its value and the next field begin. The length in front of ``BYTES`` is no
            part of the value.
    """

    number: int
    kind: int
    begin: int
    start: int
    stop: int


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number of variable length; returns it and the position behind it.

    Raises:
        ValueError: it is cut off or longer than 64 bits take.
    """
    value = shift = 0
    for byte in data[position : position + _LONGEST_VARINT]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number is cut off or too long")


def encode_varint(value: int) -> bytes:
    """Write a number of variable length, from 0 on."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def parts(data: bytes, position: int, stop: int) -> Iterator[Part]:
    """Yield the fields of the message between two positions, in order.

    Raises:
        ValueError: it is no message: a field is cut off, or of a kind that proto3 does not have.
    """
    while position < stop:
        begin = position
        tag, position = (data[position], position + 1) if data[position] < 0x80 else varint(data, position)
        number, kind = tag >> 3, tag & 7
        start = position
        if kind == BYTES:
            short = position < stop and data[position] < 0x80
            size, start = (data[position], position + 1) if short else varint(data, position)
            position = start + size
        elif kind == VARINT:
            position = varint(data, position)[1]
        elif kind == FIXED32:
            position += 4
        elif kind == FIXED64:
            position += 8
        else:
            raise ValueError(f"a field has the wire type {kind}")
        if position > stop or not number:
            raise ValueError("a field is cut off" if number else "a field has the number 0")
        yield Part(number, kind, begin, start, position)

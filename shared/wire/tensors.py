"""The tensors of the wire format, and what is wrong with one. A part of ``messages.py``, which others import. Pure."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from shared.state.cards import ITEM_BYTES

MAX_DIMENSIONS = 16
MAX_TEXT = 1024

_LENGTH = struct.Struct("<I")
_NO_DATATYPE = f"Datatype must be one of BYTES, {', '.join(ITEM_BYTES)}."


class WireError(ValueError):
    """A message breaks the wire format.

    Attributes:
        field: path of the offending member, such as ``inputs[0].shape``; empty for the message as a whole.
        request_id, reply_to: set if they are readable, so that the sender can get a reply.
    """

    def __init__(
        self, message: str, field: str = "", *, request_id: str | None = None, reply_to: str | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.request_id = request_id
        self.reply_to = reply_to


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as bytes: little-endian, row-major; BYTES elements carry a 4-byte length each."""

    name: str
    datatype: str
    shape: Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    data: bytes


def decode_tensor(value: Any, path: str) -> Tensor:
    """Check one ``{name, datatype, shape, data}`` map whose data are bytes.

    Raises:
        WireError: a member is missing or malformed, or the shape disagrees with the bytes; ``field`` starts with
            ``path``.
    """
    if type(value) is not dict or set(value) != {"name", "datatype", "shape", "data"}:
        raise WireError("A tensor must be a map with name, datatype, shape and data.", path)
    name, datatype, shape, data = value["name"], value["datatype"], value["shape"], value["data"]
    if type(name) is not str or len(name) > MAX_TEXT:
        raise WireError("A tensor's name must be a short string.", f"{path}.name")
    if type(datatype) is not str or (datatype != "BYTES" and datatype not in ITEM_BYTES):
        raise WireError(_NO_DATATYPE, f"{path}.datatype")
    if type(data) is not bytes:
        raise WireError("A tensor's data must be bytes.", f"{path}.data")
    sizes = check_shape(shape, f"{path}.shape")
    check_data(datatype, sizes, data, path)
    return Tensor(name, datatype, sizes, data)


def check_data(datatype: str, sizes: tuple[int, ...], data: bytes, path: str) -> None:
    """Check that the bytes of a tensor are as many as its datatype and its shape say.

    Raises:
        WireError: they are not, or there is no such datatype.
    """
    if datatype == "BYTES":
        check_byte_elements(data, math.prod(sizes), f"{path}.data")
    elif datatype not in ITEM_BYTES:
        raise WireError(_NO_DATATYPE, f"{path}.datatype")
    elif math.prod(sizes) * ITEM_BYTES[datatype] != len(data):
        raise WireError(
            f"Shape {list(sizes)} of {datatype} takes {math.prod(sizes) * ITEM_BYTES[datatype]} bytes, "
            f"but data holds {len(data)}.",
            f"{path}.shape",
        )


def check_shape(shape: Any, path: str) -> tuple[int, ...]:
    """Check a shape: a list of at most 16 sizes, each from 0 to 2^31 - 1.

    Raises:
        WireError: it is not one.
    """
    if type(shape) not in (list, tuple) or len(shape) > MAX_DIMENSIONS:
        raise WireError(f"A shape must be a list of at most {MAX_DIMENSIONS} sizes.", path)
    for size in shape:
        if type(size) is not int or not 0 <= size < 1 << 31:
            raise WireError("A size in a shape must be a whole number from 0 to 2147483647.", path)
    return tuple(shape)


def check_byte_elements(data: bytes, expected: int, path: str) -> None:
    """Check that ``data`` are so many BYTES elements.

    Raises:
        WireError: they are not.
    """
    for _ in check_byte_elements_in_steps(data, expected, path):
        pass


def check_byte_elements_in_steps(data: bytes, expected: int, path: str, at_once: int = sys.maxsize) -> Iterator[None]:
    """As :func:`check_byte_elements`, with a pause after every ``at_once`` elements."""
    position, count, size, length = 0, 0, len(data), _LENGTH.unpack_from
    while position < size and count <= expected:
        stop = min(count + at_once, expected + 1)
        while position < size and count < stop:
            if position + 4 > size:
                raise WireError("The length of a BYTES element is cut off.", path)
            position += 4 + length(data, position)[0]
            count += 1
        yield
    if position != size or count != expected:
        raise WireError(f"data does not hold {expected} BYTES elements.", path)

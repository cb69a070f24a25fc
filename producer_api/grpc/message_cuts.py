"""A ``ModelInferRequest`` cut into the bytes of its tensors and the short rest, which protobuf parses. Pure.

Raw tensors are taken out with one copy. Typed contents that are long are parsed a piece at a time, so that others are
served in between, and no more objects are made at once than a piece holds.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from producer_api.parsing.steps import LARGE_BYTES, Steps
from shared.wire.messages import MAX_TEXT
from shared.wire.outcomes import invalid, malformed

from .schema import MESSAGES, message_class
from .wire_format import BYTES, Part, encode_varint, parts

PIECE_BYTES: Final = 64 * 1024
MOST_PARTS: Final = 512
"""Fields of a request and of each input: more than names, parameters and 64 tensors take."""

_NAMES = {
    MESSAGES["ModelInferRequest"]["model_name"][0]: "model",
    MESSAGES["ModelInferRequest"]["model_version"][0]: "version",
}
_LAST_NAME = max(_NAMES)
_INPUTS = MESSAGES["ModelInferRequest"]["inputs"][0]
_RAW = MESSAGES["ModelInferRequest"]["raw_input_contents"][0]
_CONTENTS = MESSAGES["ModelInferRequest.InferInputTensor"]["contents"][0]

_Request, _Contents = message_class("ModelInferRequest"), message_class("InferTensorContents")

CONTENTS_OF: Final = {
    "BOOL": ("bool_contents", "B", 1),
    "INT8": ("int_contents", "b", 1),
    "INT16": ("int_contents", "h", 2),
    "INT32": ("int_contents", "i", 4),
    "INT64": ("int64_contents", "q", 8),
    "UINT8": ("uint_contents", "B", 1),
    "UINT16": ("uint_contents", "H", 2),
    "UINT32": ("uint_contents", "I", 4),
    "UINT64": ("uint64_contents", "Q", 8),
    "FP32": ("fp32_contents", "f", 4),
    "FP64": ("fp64_contents", "d", 8),
    "BYTES": ("bytes_contents", "", 0),
}
"""The member of ``InferTensorContents`` for each datatype, and its element for ``array``: code and bytes."""

_LENGTH = struct.Struct("<I")
_PARTS_AT_ONCE: Final = 2048


class Cut(NamedTuple):
    """The parts of a request.

    Attributes:
        request: the message without its raw tensors, and without the long contents of inputs.
        raw: the raw tensors, in order.
        long: by the index of an input, where its long contents begin and end in the message.
        long_bytes: of these, together.
    """

    request: Any
    raw: Sequence[bytes]
    long: dict[int, list[tuple[int, int]]]
    long_bytes: int


def names(message: bytes) -> dict[str, str]:
    """Return the model that a request is for, and its version if one is named, by the names that a path has for them.

    Nothing of a message that cannot be read; it is checked later.
    """
    found = {"model": ""}
    try:
        for count, part in enumerate(parts(message, 0, len(message))):
            if part.kind == BYTES and part.number in _NAMES and part.stop > part.start:
                found[_NAMES[part.number]] = message[part.start : min(part.stop, part.start + MAX_TEXT)].decode()
            elif part.number > _LAST_NAME or count >= MOST_PARTS:  # they are written in the order of their numbers
                break
    except ValueError:  # also of what is no UTF-8
        pass
    return found


def cut(message: bytes) -> Cut:
    """Cut a request into its parts.

    Raises:
        RequestError: ``MALFORMED``: it is no such message, or it has too many fields.
    """
    try:
        return _cut(message)
    except (ValueError, DecodeError) as error:
        raise malformed(f"The message is not a valid ModelInferRequest: {str(error)[:120]}.") from None


def _cut(message: bytes) -> Cut:
    kept: list[bytes] = []
    raw: list[bytes] = []
    long: dict[int, list[tuple[int, int]]] = {}
    inputs = 0
    for part in _counted(message, 0, len(message), "The request"):
        if part.kind == BYTES and part.number == _RAW:
            raw.append(message[part.start : part.stop])
        elif part.kind == BYTES and part.number == _INPUTS:
            if part.stop - part.start > PIECE_BYTES:
                long[inputs], rest = _cut_input(message, part)
                kept += (message[part.begin : part.begin + 1], encode_varint(len(rest)), rest)
            else:
                kept.append(message[part.begin : part.stop])
            inputs += 1
        else:
            kept.append(message[part.begin : part.stop])
    short = b"".join(kept)
    if len(short) > LARGE_BYTES:
        raise malformed(f"Names, shapes, parameters and short contents take more than {LARGE_BYTES} bytes.")
    long_bytes = sum(stop - start for regions in long.values() for start, stop in regions)
    return Cut(_Request.FromString(short), raw, long, long_bytes)


def _counted(message: bytes, start: int, stop: int, what: str) -> Iterator[Part]:
    for count, part in enumerate(parts(message, start, stop), 1):
        if count > MOST_PARTS:
            raise malformed(f"{what} has more than {MOST_PARTS} fields.")
        yield part


def _cut_input(message: bytes, whole: Part) -> tuple[list[tuple[int, int]], bytes]:
    """Return where an input's contents are, and the rest of it."""
    kept, contents = [], []
    for part in _counted(message, whole.start, whole.stop, "An input"):
        if part.kind == BYTES and part.number == _CONTENTS:
            contents.append((part.start, part.stop))
        else:
            kept.append(message[part.begin : part.stop])
    return contents, b"".join(kept)


def elements(contents: Any, datatype: str, path: str) -> bytes:
    """Return typed contents as the bytes of a tensor: little-endian; BYTES elements carry a 4-byte length.

    Args:
        contents: an ``InferTensorContents``.
        path: of the input, for errors.

    Raises:
        RequestError: ``INVALID_INPUT``: they are in another member than the datatype's, or out of its range.
    """
    member, code, _ = _contents_of(datatype, path)
    for field, _ in contents.ListFields():
        if field.name != member:
            raise invalid(f"Contents of {datatype} belong into {member}, not {field.name}.", f"{path}.contents")
    values = getattr(contents, member)
    if not code:
        return b"".join(piece for value in values for piece in (_LENGTH.pack(len(value)), value))
    try:
        made = array(code, values)
    except OverflowError:
        raise invalid(f"An element is out of range for {datatype}.", f"{path}.contents.{member}") from None
    if sys.byteorder == "big":
        made.byteswap()
    return made.tobytes()


def _contents_of(datatype: str, path: str) -> tuple[str, str, int]:
    found = CONTENTS_OF.get(datatype)
    if found is None:
        said = f"{datatype[:16]!r} has no typed contents, only raw_input_contents."
        raise invalid(said, f"{path}.datatype")
    return found


def elements_in_steps(message: bytes, regions: Sequence[tuple[int, int]], datatype: str, path: str) -> Steps[bytes]:
    """As :func:`elements`, of contents that :func:`cut` left out.

    Raises:
        RequestError: as there, and ``MALFORMED``.
    """
    _contents_of(datatype, path)
    made = []
    try:
        for start, stop in regions:
            for piece in _pieces(message, start, stop):
                made.append(elements(_Contents.FromString(piece), datatype, path))
                yield
    except (ValueError, DecodeError) as error:
        raise malformed(f"The contents cannot be read: {str(error)[:120]}.", f"{path}.contents") from None
    return b"".join(made)


def _pieces(message: bytes, start: int, stop: int) -> Iterator[bytes]:
    """Yield contents as several messages that hold the same when read one after the other."""
    begin = position = start
    count = 0
    for part in parts(message, start, stop):
        if part.kind == BYTES and part.number != _BYTES_CONTENTS and part.stop - part.start > PIECE_BYTES:
            if begin < part.begin:
                yield message[begin : part.begin]
            yield from _of_packed(message, part)
            begin, count = part.stop, 0
        elif count == _PARTS_AT_ONCE or part.stop - begin > PIECE_BYTES:
            yield message[begin : part.stop]
            begin, count = part.stop, 0
        position, count = part.stop, count + 1
    if begin < position:
        yield message[begin:position]


def _of_packed(message: bytes, part: Part) -> Iterator[bytes]:
    """Yield the elements of a long packed list as several short ones."""
    tag = encode_varint(part.number << 3 | BYTES)
    begin = part.start
    while begin < part.stop:
        stop = min(part.stop, begin + PIECE_BYTES)
        if part.number not in _FIXED:  # a number ends with a byte below 128
            while stop < part.stop and message[stop - 1] >= 0x80:
                stop += 1
                if stop - begin > PIECE_BYTES + 10:
                    raise ValueError("a number is too long")
        yield tag + encode_varint(stop - begin) + message[begin:stop]
        begin = stop


_MEMBERS = MESSAGES["InferTensorContents"]
_BYTES_CONTENTS = _MEMBERS["bytes_contents"][0]
_FIXED = (_MEMBERS["fp32_contents"][0], _MEMBERS["fp64_contents"][0])

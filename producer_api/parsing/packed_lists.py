"""Lists of elements in msgpack, long ones a few thousand elements at a time, so that never all of them are objects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

from shared.wire.outcomes import RequestError, invalid

from .elements import list_type, pack_elements
from .steps import Steps
from .validation import from_validation

AT_ONCE = 8192
TEXTS_AT_ONCE = 1024
"""Elements of one step, which takes about a millisecond."""

_NUMBER = rb"(?:[\x00-\x7f\xe0-\xff\xc2\xc3]|[\xcc\xd0].|[\xcd\xd1]..|[\xca\xce\xd2]....|[\xcb\xcf\xd3]........)"
"""A whole number, a float, true or false in msgpack."""


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
    reader = _Reader(raw, [count] if depth == 1 else list(shape), path)
    parts: list[bytes] = []
    for some in reader.texts() if datatype == "BYTES" else reader.numbers(datatype):
        parts.append(_pack(datatype, some, path))
        del some
        yield
    return b"".join(parts)


class _Reader:
    """Reads a nested list from its start to its end, some elements at a time.

    Args:
        sizes: of the lists, the outermost first.
    """

    def __init__(self, raw: bytes | memoryview, sizes: Sequence[int], path: str) -> None:
        self._raw, self._sizes, self._path, self._at = raw, sizes, path, 0

    def numbers(self, datatype: str) -> Iterator[list[Any]]:
        """Give the elements where they are numbers or booleans. Small lists at the bottom are read many at once."""
        outer, unit = _split(self._sizes)
        inner = len(self._sizes) - len(outer)
        decoder = msgspec.msgpack.Decoder(list_type(datatype, 1 + inner))
        most = max(1, AT_ONCE // math.prod(self._sizes[len(outer) :]))
        for size in self._leaves(outer):
            for left in range(size, 0, -most):
                some = min(left, most)
                match = _units(unit, some).match(self._raw, self._at)
                if match is None:
                    raise self._no_element()
                values = self._decoded(decoder, some, match.end())
                for _ in range(inner):
                    values = list(chain.from_iterable(values))
                yield values
        self._end()

    def _decoded(self, decoder: msgspec.msgpack.Decoder[list[Any]], count: int, end: int) -> list[Any]:
        message = b"\xdd" + count.to_bytes(4, "big") + self._raw[self._at : end]
        self._at = end
        try:
            return decoder.decode(message)
        except msgspec.ValidationError as error:
            raise from_validation(error, self._path) from None

    def texts(self) -> Iterator[list[Any]]:
        """Give the elements where they are texts."""
        waiting: list[Any] = []
        for size in self._leaves(self._sizes):
            for _ in range(size):
                waiting.append(self._text())
                if len(waiting) == TEXTS_AT_ONCE:
                    yield waiting
                    waiting = []
        yield waiting
        self._end()

    def _text(self) -> str:
        kind = self._raw[self._at] if self._at < len(self._raw) else 0
        start = self._at + 1
        if 0xA0 <= kind <= 0xBF:
            end = start + kind - 0xA0
        elif 0xD9 <= kind <= 0xDB:
            start += 1 << (kind - 0xD9)
            end = start + int.from_bytes(self._raw[self._at + 1 : start], "big")
        else:
            raise self._no_element()
        self._at = end
        try:
            return str(self._raw[start:end], "utf-8")
        except UnicodeDecodeError:
            raise invalid("Data holds text that is not UTF-8.", self._path) from None

    def _leaves(self, sizes: Sequence[int]) -> Iterator[int]:
        """Read the heads of the lists as they come, and give the length of each at the bottom."""
        below = [math.prod(sizes[level:-1]) for level in range(len(sizes))]
        for leaf in range(below[0]):
            for size, leaves in zip(sizes, below, strict=True):
                if leaf % leaves == 0:  # a list begins, the outermost first
                    self._open(size)
            yield sizes[-1]

    def _open(self, size: int) -> None:
        kind = self._raw[self._at] if self._at < len(self._raw) else 0
        width = {0xDC: 2, 0xDD: 4}.get(kind, 0)
        found = kind - 0x90
        if width:
            found = int.from_bytes(self._raw[self._at + 1 : self._at + 1 + width], "big")
        elif not 0 <= found <= 15:
            raise self._not_nested()
        if found != size and len(self._sizes) == 1:
            raise invalid(f"Data holds {found} elements, but the shape takes {size}.", self._path)
        if found != size:
            raise self._not_nested()
        self._at += 1 + width

    def _end(self) -> None:
        if self._at != len(self._raw):
            raise self._not_nested()

    def _not_nested(self) -> RequestError:
        return invalid(f"Data is not nested like the shape {list(self._sizes)}.", self._path)

    def _no_element(self) -> RequestError:
        return invalid("Data has an element of another type, or is not nested like its shape.", self._path)


def _split(sizes: Sequence[int]) -> tuple[Sequence[int], bytes]:
    """Part the sizes: those of lists that are read one by one, and the pattern of what is in the last of these.

    It is a number, or a small list of small lists whose heads are a byte each.
    """
    at, unit = len(sizes), _NUMBER
    while at > 1 and sizes[at - 1] <= 15 and math.prod(sizes[at - 1 :]) <= AT_ONCE:
        at -= 1
        unit = re.escape(bytes([0x90 + sizes[at]])) + b"(?:%b){%d}" % (unit, sizes[at])
    return sizes[:at], unit


@lru_cache(maxsize=64)
def _units(unit: bytes, count: int) -> re.Pattern[bytes]:
    return re.compile(b"(?:%b){%d}" % (unit, count), re.DOTALL)


def _pack(datatype: str, values: list[Any], path: str) -> bytes:
    try:
        return pack_elements(datatype, values)
    except OverflowError:
        raise invalid(f"An element is out of range for {datatype}.", path) from None

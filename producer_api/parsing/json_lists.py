"""Long lists of elements in JSON, checked and packed a piece at a time, so that never all of them are objects.

A piece ends at a comma between two elements. Where a list is nested, its brackets are compared with those that its
shape has, all other characters left out; then they are nothing but blanks, and what is left is a flat list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from shared.wire.outcomes import invalid, malformed

from .elements import list_type, pack_elements
from .json_texts import decoded, end_of_text
from .steps import Steps
from .validation import from_validation

PIECE_BYTES = 64 * 1024
"""Text of one step, which takes about a millisecond."""

MOST_ELEMENT_BYTES = 64 * 1024
"""Of a number or a truth value with the blanks around it."""

STRINGS_AT_ONCE = 1024

_BLANK = b" \t\r\n"
_OF_NUMBERS = b"0123456789+-.eE" + _BLANK
_OF_BOOLEANS = b"truefals" + _BLANK
_BRACKETS_TO_BLANKS = bytes.maketrans(b"[]", b"  ")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STRINGS = re.compile(rb'(?:[^"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"){1,%d}+' % STRINGS_AT_ONCE, re.DOTALL)
_INDEX = re.compile(r"\$\[(\d+)\]")


@cache
def _decoder(datatype: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(list_type(datatype, 1))


def packed(text: bytes, datatype: str, shape: Sequence[int], depth: int, count: int, path: str) -> Steps[bytes]:
    """Check a list of elements and pack them.

    Args:
        text: one JSON value, or what its sender takes for one.
        shape: as it was given; a nested list has its sizes, none of which is 0.
        depth: of the list, 1 or the length of ``shape``.
        count: elements that the shape takes.
        path: where the list stands in the request.

    Raises:
        RequestError: ``INVALID_INPUT``, or ``MALFORMED`` for what is no JSON.
    """
    text = text.strip(_BLANK)
    if len(text) < 2 or text[:1] != b"[" or text[-1:] != b"]":
        raise malformed("The body is not valid JSON: a list does not end.", "body")
    pieces: Iterator[bytes | list[str] | None]
    if datatype == "BYTES":
        pieces = _strings(text, [count] if depth == 1 else shape, path)
    else:
        pieces = _numbers(text, datatype, shape, depth, path)

    parts: list[bytes] = []
    found = 0
    for piece in pieces:
        if piece is not None:
            values = piece if isinstance(piece, list) else _decode(datatype, piece, found, path, is_flat=depth == 1)
            found += len(values)
            if found > count:
                break
            parts.append(_pack(datatype, values, path))
            del values
        yield
    if found != count:
        what = "more" if found > count else str(found)
        raise invalid(f"Data holds {what} elements, but the shape takes {count}.", path)
    return b"".join(parts)


def _decode(datatype: str, piece: bytes, before: int, path: str, *, is_flat: bool) -> list[Any]:
    try:
        values: list[Any] = _decoder(datatype).decode(b"[%b]" % piece)
    except msgspec.ValidationError as error:
        raise from_validation(_moved(error, before, is_flat), path) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise malformed("The body is not valid JSON: a list has something else than elements in it.", "body") from None
    return values


def _moved(error: msgspec.ValidationError, before: int, is_flat: bool) -> msgspec.ValidationError:
    """Say where the element stands in the whole list, and not in this piece."""

    def place(match: re.Match[str]) -> str:
        return f"$[{int(match[1]) + before}]" if is_flat else "$"

    return msgspec.ValidationError(_INDEX.sub(place, str(error), count=1))


def _pack(datatype: str, values: list[Any], path: str) -> bytes:
    try:
        return pack_elements(datatype, values)
    except OverflowError:
        raise invalid(f"An element is out of range for {datatype}.", path) from None


def _numbers(text: bytes, datatype: str, shape: Sequence[int], depth: int, path: str) -> Iterator[bytes | None]:
    """Give the text of some elements after another, without brackets around them; None is a pause."""
    start, end = 1, len(text) - 1
    if depth > 1:
        yield from _check_nesting(text, _OF_BOOLEANS if datatype == "BOOL" else _OF_NUMBERS, shape, path)
        start, end = 0, len(text)
    is_first = True
    while True:
        comma = text.find(b",", start + PIECE_BYTES, end)
        stop = end if comma < 0 else comma
        if stop - start > PIECE_BYTES + MOST_ELEMENT_BYTES:
            raise invalid(f"An element has more than {MOST_ELEMENT_BYTES} characters, blanks included.", path)
        piece = text[start:stop] if depth == 1 else text[start:stop].translate(_BRACKETS_TO_BLANKS)
        if not (is_first and comma < 0) and not piece.strip(_BLANK):
            raise malformed("The body is not valid JSON: a list has a comma too many.", "body")
        yield piece
        if comma < 0:
            return
        start, is_first = comma + 1, False


def _strings(text: bytes, shape: Sequence[int], path: str) -> Iterator[bytes | list[str] | None]:
    """As :func:`_numbers`, for strings, which may hold what looks like the end of an element; a long one is decoded."""
    frame = _Frame(shape, len(text), path)
    start = 0
    while True:
        if match := _STRINGS.match(text, start, start + PIECE_BYTES):
            some = match[0]
            frame.check(_STRING.sub(b"", some).translate(None, _BLANK))
            yield b",".join(_STRING.findall(some))
            start = match.end()
            continue
        quote = text.find(b'"', start)
        yield from _check_between(frame, text, start, len(text) if quote < 0 else quote, _BLANK)
        if quote < 0:
            break
        start = yield from end_of_text(text, quote)
        value = yield from decoded(text[quote:start])
        yield [value]
    frame.end()


def _check_nesting(text: bytes, elements: bytes, shape: Sequence[int], path: str) -> Iterator[None]:
    frame = _Frame(shape, len(text), path)
    yield from _check_between(frame, text, 0, len(text), elements)
    frame.end()


def _check_between(frame: _Frame, text: bytes, start: int, stop: int, passed_over: bytes) -> Iterator[None]:
    for at in range(start, stop, 4 * PIECE_BYTES):
        frame.check(text[at : min(at + 4 * PIECE_BYTES, stop)].translate(None, passed_over))
        yield None


class _Frame:
    """The brackets and commas of a list of a certain shape.

    Args:
        shape: of the list, at least one size and none of them 0.
        most: characters that the list has; what would have more brackets and commas is none of this shape.
    """

    def __init__(self, shape: Sequence[int], most: int, path: str) -> None:
        self._error = invalid(f"Data is not nested like the shape {list(shape)}.", path)
        self._at = 0
        frame = b""
        for size in reversed(shape):
            if size * (len(frame) + 1) + 1 > most:
                raise self._error
            frame = b"[%b]" % ((frame + b",") * size)[:-1]
        self._frame = frame

    def check(self, found: bytes) -> None:
        """Compare what comes next.

        Raises:
            RequestError: it is something else.
        """
        if self._frame[self._at : self._at + len(found)] != found:
            raise self._error
        self._at += len(found)

    def end(self) -> None:
        """Check that nothing is missing.

        Raises:
            RequestError: something is.
        """
        if self._at != len(self._frame):
            raise self._error

"""Long texts in JSON: where one ends, and what it says, a piece at a time."""

from __future__ import annotations

import re

import msgspec

from shared.wire.outcomes import malformed

from .steps import Steps

PIECE_BYTES = 256 * 1024

_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_PAIR = 12
"""Characters of the longest escape: two surrogates."""


def end_of_text(body: bytes, start: int) -> Steps[int]:
    """Return where a text ends: behind the next quotation mark with an even number of backslashes before it.

    Args:
        start: where its first quotation mark is.

    Raises:
        RequestError: ``MALFORMED``: nowhere.
    """
    quote, at = body.find(b'"', start + 1), start + 1
    if quote >= 0 and (body[quote - 1] != 0x5C or quote == at):
        return quote + 1
    while quote >= 0 and (match := _INSIDE.match(body, at, at + PIECE_BYTES)) is not None and match.end() > at:
        at = match.end()
        if body[at : at + 1] == b'"':
            return at + 1
        yield
    if quote >= 0 and body[at : at + 1] == b'"':
        return at + 1
    raise malformed("The body is not valid JSON: a text does not end.", "body")


def decoded(text: bytes) -> Steps[str]:
    """Return what a text says; it is parted where that can be seen not to part an escape.

    Args:
        text: with its quotation marks.

    Raises:
        RequestError: ``MALFORMED``: it is no text of JSON.
    """
    parts: list[str] = []
    start, end = 1, len(text) - 1
    try:
        while start < end:
            stop = _before_escape(text, start, min(start + PIECE_BYTES, end), end)
            parts.append(msgspec.json.decode(b'"%b"' % text[start:stop], type=str))
            start = stop
            yield
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise malformed(
            "The body is not valid JSON: a text is not UTF-8, or has escapes that are none.", "body"
        ) from None
    return "".join(parts)


def _before_escape(text: bytes, start: int, stop: int, end: int) -> int:
    """Move the end of a piece in front of what it would part: an escape, a pair of them, a letter of many bytes."""
    if stop == end:
        return end
    at = stop
    while at > max(start, stop - 3) and 0x80 <= text[at] <= 0xBF:
        at -= 1
    escape = text.find(b"\\", max(start, at - _PAIR), at)
    if escape >= 0:
        before = text[start:escape]
        at = escape - (len(before) - len(before.rstrip(b"\\"))) % 2  # the other half of an escaped backslash
        if _is_surrogate(text, at, b"cdef") and at - 6 >= start and _is_surrogate(text, at - 6, b"89ab"):
            at -= 6
    return at if at > start else end


def _is_surrogate(text: bytes, at: int, halves: bytes) -> bool:
    found = text[at : at + 4].lower()
    return len(found) == 4 and found[:3] == b"\\ud" and found[3] in halves

"""Dead letters as the console shows and chooses them: reading rows, matching, and their order. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from shared.names import is_name
from shared.wire.outcomes import malformed

_ENTRY: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})(?:/([A-Za-z0-9_-]{1,64}))?\Z")
_MOST: Final = (1 << 64) - 1
_MOST_DIGITS: Final = 9


class Letter(Struct, frozen=True):
    """A request that was given up.

    Attributes:
        id: of the letter, among those of its lane.
        request_id: empty where it cannot be read.
        at_ms: when it was given up, POSIX time on Redis's clock.
        attempts: how often it was begun and not finished.
        bytes: of the whole message.
        content_type: of its body; empty for tensors, and where it cannot be read.
    """

    id: str
    request_id: str
    lane: str
    at_ms: int
    reason: str
    attempts: int
    bytes: int
    content_type: str

    @property
    def entry(self) -> Entry:
        """Its place in the stream."""
        ms, _, seq = self.id.partition("-")
        return Entry(int(ms), int(seq))


class Entry(NamedTuple):
    """An id of a stream; ids are compared as numbers."""

    ms: int
    seq: int

    @property
    def text(self) -> str:
        """As Redis writes it."""
        return f"{self.ms}-{self.seq}"


class Cursor(NamedTuple):
    """The last letter of a page: letters are listed newest first, and of the same id by the names of their lanes."""

    entry: Entry
    lane: str

    @property
    def text(self) -> str:
        """As clients send it back."""
        return f"{self.entry.text}/{self.lane}"

    def begin(self, lane: str) -> str:
        """Return where a lane goes on, as XREVRANGE takes it."""
        return self.entry.text if self.lane and lane > self.lane else f"({self.entry.text}"


def letter_of(lane: str, row: Sequence[Any]) -> Letter:
    """Read a row of ``hr1_letters``."""
    entry, reason, crashes, request_id, size_bytes, content_type = row[:6]
    counts = crashes.isdigit() and len(crashes) <= _MOST_DIGITS
    letter_id = _text(entry)
    return Letter(
        id=letter_id,
        request_id=_text(request_id),
        lane=lane,
        at_ms=int(letter_id.partition("-")[0]),
        reason=_text(reason),
        attempts=int(crashes) if counts else 0,
        bytes=size_bytes,
        content_type=_text(content_type),
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class Match:
    """A plain substring, whatever the case, of the reason, the request's id, the lane or the content type.

    Args:
        text: empty matches every letter.
    """

    def __init__(self, text: str) -> None:
        self._text = text.lower()

    def __call__(self, letter: Letter) -> bool:
        """Say whether a letter matches."""
        text = self._text
        return (
            not text
            or text in letter.reason.lower()
            or text in letter.request_id.lower()
            or text in letter.lane.lower()
            or text in letter.content_type.lower()
        )


def entry_of(text: str, field: str) -> Entry:
    """Read an id.

    Raises:
        RequestError: ``MALFORMED``.
    """
    return _cursor(text, field, takes_lane=False).entry


def cursor_of(text: str, field: str) -> Cursor:
    """Read what a page gave as its next one, or an id.

    Raises:
        RequestError: ``MALFORMED``.
    """
    return _cursor(text, field, takes_lane=True)


def _cursor(text: str, field: str, *, takes_lane: bool) -> Cursor:
    found = _ENTRY.match(text)
    if found is None or (found[3] and not takes_lane) or max(int(found[1]), int(found[2])) > _MOST:
        raise malformed(f"{field} is the id of a dead letter, such as 1700000000000-0.", field)
    return Cursor(Entry(int(found[1]), int(found[2])), found[3] or "")


def check_name(text: str, field: str) -> str:
    """Return a name of a model, lane or batch.

    Raises:
        RequestError: ``MALFORMED``.
    """
    if not is_name(text):
        raise malformed(f"{field} must be 1 to 64 letters, digits, '_' or '-'.", field)
    return text


def newest_of(now_ms: int) -> Entry:
    """Return the last id that a letter of this moment can have."""
    return Entry(now_ms, _MOST)

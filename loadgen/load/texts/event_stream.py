"""Server-sent events, piece by piece as they come. Pure.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html, section "Parsing an event stream". Only the
data of events is kept. Pieces may end anywhere, in the middle of a character too: no byte of a longer UTF-8 character
is the end of a line, so lines are found in the bytes and texts are decoded whole.
"""

from __future__ import annotations

from typing import Final

MOST_EVENT_BYTES: Final = 4 * 1024 * 1024
_MARK: Final = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event has more bytes than any answer needs."""


class EventParser:
    """Takes the bytes of one answer in order and returns the data of each event that they complete."""

    __slots__ = ("_after_return", "_begun", "_data", "_rest", "_size")  # fmt: skip

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that end in this piece; comments such as pings give none.

        Raises:
            EventTooLong: more than `MOST_EVENT_BYTES` without the end of an event.
        """
        if self._after_return and piece[:1] == b"\n":  # the second half of a line's end
            piece = piece[1:]
        self._after_return = self._after_return and not piece
        if not piece:
            return []
        events: list[bytes] = []
        lines = (self._rest + piece).splitlines(keepends=True)
        self._rest = b"" if lines[-1][-1:] in b"\r\n" else lines.pop()
        self._after_return = piece[-1:] == b"\r"
        for line in lines:
            self._line(line.rstrip(b"\r\n"), events)
        if self._size + len(self._rest) > MOST_EVENT_BYTES:
            raise EventTooLong
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_MARK)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value) + 1

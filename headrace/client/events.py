"""The server-sent events of a text that is being generated (docs/rest.md). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from .errors import BAD_ANSWER, CONNECTION_FAILED, HeadraceError
from .exchange import Received, error_of

LONGEST_EVENT_BYTES = 64 * 1024 * 1024


class Events:
    """Reads one answer piece by piece.

    Attributes:
        is_done: the whole text has come.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._rest = b""

    def read(self, piece: bytes) -> list[str]:
        """Return the texts that a piece of the answer completes.

        Raises:
            HeadraceError: it ended with an error, or is none of Headrace.
        """
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise HeadraceError(BAD_ANSWER, f"An event of the answer has more than {LONGEST_EVENT_BYTES} bytes.")
        return [text for event in events if (text := self._text(event))]

    def _text(self, event: bytes) -> str:
        fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n") if not line.startswith(b":"))
        kind, data = fields.get(b"event"), fields.get(b"data", b"")
        if kind == b"error":
            raise error_of(Received(200, {}, data), None, 0.0)
        self.is_done = self.is_done or kind == b"done"
        if kind is not None or not data:
            return ""
        try:
            part: Any = msgspec.json.decode(data)
            return str(part["text"])
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError) as error:
            raise HeadraceError(BAD_ANSWER, f"A part of the answer cannot be read: {error}.") from None

    def end(self) -> None:
        """Note that nothing more comes.

        Raises:
            HeadraceError: the text is not whole.
        """
        if not self.is_done:
            raise HeadraceError(CONNECTION_FAILED, "The connection ended before the text was whole.")

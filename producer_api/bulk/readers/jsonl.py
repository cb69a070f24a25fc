"""JSON Lines: an item a line. Pure.

A line is the body of a request, or says more around it: ``{"id": "a", "body": {…}}``, or as OpenAI's batches write it
``{"custom_id": "a", "method": "POST", "url": "/v1/models/M/predict", "body": {…}}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from producer_api.parsing.validation import from_validation
from shared.wire.outcomes import BODY_TOO_LARGE, RequestError, malformed

from .items import MOST_NAME, Item

JSON: Final = b"application/json"
_BOM = b"\xef\xbb\xbf"


class _Line(Struct, forbid_unknown_fields=True):
    """A line that says more than the body of a request. Only what ``body`` holds is that request."""

    body: msgspec.Raw
    id: str | None = None
    custom_id: str | None = None
    method: str = "POST"
    url: str | None = None


_decoder = msgspec.json.Decoder(_Line)


class JsonLines:
    """Cuts JSON Lines. Empty lines are nothing; a line that is too long errs alone.

    Args:
        most_line_bytes: longest line.
    """

    def __init__(self, most_line_bytes: int) -> None:
        self._most_line_bytes = most_line_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_first = True

    def feed(self, data: bytes) -> Iterator[Item]:
        """See the interface."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            yield from self._end_of_line()
            start = end + 1
        self._keep(data[start:])

    def close(self) -> Iterator[Item]:
        """See the interface."""
        yield from self._end_of_line()

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        if self._size > self._most_line_bytes:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def _end_of_line(self) -> Iterator[Item]:
        size, pieces, self._size, self._pieces = self._size, self._pieces, 0, []
        if size > self._most_line_bytes:
            message = f"A line has at most {self._most_line_bytes} bytes, not {size}."
            yield Item(error=RequestError(BODY_TOO_LARGE, message))
            return
        line = (pieces[0] if len(pieces) == 1 else b"".join(pieces)).strip() if pieces else b""
        if self._is_first and size:
            line, self._is_first = line.removeprefix(_BOM), False
        if line:
            yield item_of(line)


def item_of(line: bytes) -> Item:
    """Return the item of one line."""
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not isinstance(error, msgspec.ValidationError) or b'"body"' not in line:
            return Item(content_type=JSON, body=line)  # the body of a request, or it says what is wrong with it
        return Item(error=from_validation(error))
    name = found.custom_id if found.id is None else found.id
    if found.id is not None and found.custom_id is not None:
        return Item(name=found.id[:MOST_NAME], error=malformed("A line has an id or a custom_id, not both.", "id"))
    if name is not None and not 1 <= len(name) <= MOST_NAME:
        return Item(name=name[:MOST_NAME], error=malformed(f"An item's id has 1 to {MOST_NAME} characters.", "id"))
    if found.method != "POST":
        return Item(name=name or "", error=malformed("method must be POST.", "method"))
    return Item(name=name or "", content_type=JSON, body=bytes(found.body), url=found.url)

"""A form with a file that is uploaded, read as it comes: fields whole, the file in pieces. Pure."""

from __future__ import annotations

from collections.abc import Generator

from producer_api.bulk.readers.items import Item
from producer_api.bulk.readers.multipart import Multipart, disposition_of
from shared.wire.outcomes import malformed

MOST_FIELD_BYTES = 4096
MOST_FIELDS = 16


class Piece(Item, frozen=True):
    """A field of a form, or a part of the file.

    Attributes:
        name: of the field.
        file_name: of the file; None for a field.
        body: the field's value, or some of the file.
    """

    file_name: str | None = None


class Form(Multipart):
    """Cuts a form; see :class:`producer_api.bulk.readers.items.Reader`. All it gives are pieces."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__(boundary, MOST_FIELD_BYTES)
        self._fields = 0

    def _part(self, head: bytes) -> Generator[Item | None, None, Item]:
        name, file_name = disposition_of(head)
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise malformed(f"A form has at most {MOST_FIELDS} fields.", "body")
        if file_name is None:
            item = yield from super()._part(head)
            if item.error is not None:
                raise item.error
            return Piece(name=name, body=item.body)
        while (at := self._buffer.find(self._delimiter)) < 0:
            size = max(0, len(self._buffer) - len(self._delimiter) + 1)
            if size:
                piece = bytes(self._buffer[:size])
                del self._buffer[:size]
                yield Piece(name=name, body=piece, file_name=file_name)
            yield from self._more()
        piece = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]
        return Piece(name=name, body=piece, file_name=file_name)

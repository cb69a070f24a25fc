"""Multipart uploads (RFC 7578, RFC 2046): an item a part, read as they come. Pure."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

from shared.wire.outcomes import BODY_TOO_LARGE, RequestError, malformed

from .items import Item, SteppedReader, name_of

MOST_HEAD_BYTES: Final = 8 * 1024
"""Headers of one part; and what may come before the first."""

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_FILE_NAME = re.compile(rb'\bfilename="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_NAME = re.compile(rb'\bname="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_ESCAPED = re.compile(rb"\\(.)")


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary that a content type names.

    Raises:
        RequestError: ``MALFORMED``: it names none.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise malformed("A multipart upload names its boundary in Content-Type.", "Content-Type")
    return found[1] or found[2]


class Multipart(SteppedReader):
    """Cuts a multipart upload. A part that is too large errs alone.

    Args:
        most_part_bytes: largest part.
    """

    def __init__(self, boundary: bytes, most_part_bytes: int) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._most_part_bytes = most_part_bytes
        # Before the first boundary there need be no line.
        super().__init__("The upload ends before its last boundary.", b"\r\n")

    def _parse(self) -> Iterator[Item | None]:
        yield from self._skip_preamble()
        while (yield from self._has_part()):
            head = yield from self._head()
            yield (yield from self._part(head))
        yield from self._skip_the_rest()

    def _skip_preamble(self) -> Generator[Item | None, None, None]:
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > MOST_HEAD_BYTES:
                raise malformed("The upload does not begin with its boundary.", "body")
            yield from self._more()
        del self._buffer[: at + len(self._delimiter)]

    def _has_part(self) -> Generator[Item | None, None, bool]:
        """Say whether a part follows a boundary, or the end of the upload."""
        while len(self._buffer) < 2:
            yield from self._more()
        mark = bytes(self._buffer[:2])
        if mark not in (b"--", b"\r\n"):
            raise malformed("After a boundary comes a line end, or -- after the last.", "body")
        if mark == b"\r\n":  # stays where there are no headers, as the begin of the empty line
            del self._buffer[:2]
        return mark != b"--"

    def _head(self) -> Generator[Item | None, None, bytes]:
        while True:
            if self._buffer.startswith(b"\r\n"):
                del self._buffer[:2]
                return b""
            if (at := self._buffer.find(b"\r\n\r\n", 0, MOST_HEAD_BYTES)) >= 0:
                head = bytes(self._buffer[:at])
                del self._buffer[: at + 4]
                return head
            if len(self._buffer) > MOST_HEAD_BYTES:
                raise malformed(f"The headers of a part have at most {MOST_HEAD_BYTES} bytes.", "body")
            yield from self._more()

    def _part(self, head: bytes) -> Generator[Item | None, None, Item]:
        size, looked = 0, 0
        while (at := self._buffer.find(self._delimiter, looked)) < 0:
            looked = max(0, len(self._buffer) - len(self._delimiter) + 1)
            if size + looked > self._most_part_bytes:  # drop it as it comes
                del self._buffer[:looked]
                size, looked = size + looked, 0
            yield from self._more()
        body = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]
        return self._item(head, body, size + at)

    def _item(self, head: bytes, body: bytes, size: int) -> Item:
        headers = _headers(head)
        disposition = headers.get(b"content-disposition", b"")
        name = _text(_FILE_NAME.search(disposition) or _NAME.search(disposition)) or ""
        if size > self._most_part_bytes:
            message = f"A part has at most {self._most_part_bytes} bytes, not {size}."
            return Item(name=name, error=RequestError(BODY_TOO_LARGE, message))
        if headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            return Item(name=name, error=malformed("A part is sent as it is, without Content-Transfer-Encoding."))
        return Item(name=name, content_type=headers.get(b"content-type", b""), body=body)


def disposition_of(head: bytes) -> tuple[str, str | None]:
    """Return the names of a part's field and of its file, None where it is no file."""
    disposition = _headers(head).get(b"content-disposition", b"")
    file = _FILE_NAME.search(disposition)
    rest = disposition if file is None else disposition[: file.start()] + disposition[file.end() :]
    return _text(_NAME.search(rest)) or "", _text(file)


def _text(found: re.Match[bytes] | None) -> str | None:
    return None if found is None else name_of(_ESCAPED.sub(rb"\1", found[1]).decode("utf-8", "replace"))


def _headers(head: bytes) -> dict[bytes, bytes]:
    found = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            if line:
                raise malformed("A header of a part has no colon.", "body")
            continue
        found[name.strip().lower()] = value.strip()
    return found

"""What an upload holds, whatever its format: items, one after the other. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Struct

from shared.wire.outcomes import RequestError, malformed

MOST_NAME: Final = 256
"""Characters in an item's own name."""


class Item(Struct, frozen=True):
    """One item of an upload, not decoded yet.

    Attributes:
        name: the client's own, empty where it gives none.
        content_type: of ``body``, as the upload says; empty where its first bytes say it.
        body: what a request of its own would have as its body.
        error: why it cannot be run; the others can.
        url: the path that it names, None for that of the batch.
    """

    name: str = ""
    content_type: bytes = b""
    body: bytes = b""
    error: RequestError | None = None
    url: str | None = None


class Reader(Protocol):
    """Cuts an upload into items as it comes. Pure: bytes in, items out.

    Raises:
        RequestError: from both: the upload as a whole is refused.
    """

    def feed(self, data: bytes) -> Iterator[Item]:
        """Take more of the upload; exhaust what this returns before the next call."""
        ...

    def close(self) -> Iterator[Item]:
        """Take note that this was all of it."""
        ...


class SteppedReader(ABC):
    """A reader whose format is parsed in steps: ``_parse`` asks for more whenever what has come is not enough.

    Args:
        before: bytes that stand before the upload.
        is_cut: sentence that refuses an upload which ends too early.
    """

    def __init__(self, is_cut: str, before: bytes = b"") -> None:
        self._buffer, self._is_cut, self._is_ended = bytearray(before), is_cut, False
        self._steps = self._parse()

    def feed(self, data: bytes) -> Iterator[Item]:
        """See the interface."""
        self._buffer += data
        while (item := next(self._steps)) is not None:
            yield item

    def close(self) -> Iterator[Item]:
        """See the interface."""
        self._is_ended = True
        yield from self.feed(b"")

    @abstractmethod
    def _parse(self) -> Iterator[Item | None]:
        """Yield items, and None where more of the upload is needed; after its end the latter only."""

    def _more(self) -> Iterator[None]:
        if self._is_ended:
            raise malformed(self._is_cut, "body")
        yield None

    def _skip_the_rest(self) -> Iterator[None]:
        """Look at nothing that follows."""
        while True:
            self._buffer.clear()
            yield None


def name_of(text: str) -> str:
    """Return an item's own name, cut to a length that results can carry."""
    return text[:MOST_NAME]

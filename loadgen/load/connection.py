"""[I/O] One keep-alive connection: bytes out, one parsed answer back, never two requests at once."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final, Protocol, cast

import httptools

IDLE: Final = -1


class Owner(Protocol):
    """The owner of connections, which learns the outcome of requests."""

    def answered(self, connection: Connection, index: int, status: int, body: bytes, whole: bool, at_s: float) -> None:
        """A request has its answer; `whole` is False when only the closing connection marked the body's end."""

    def broken(self, connection: Connection, index: int, untouched: bool, garbled: bool, at_s: float) -> None:
        """The connection is gone; `index` is the request it carried, or IDLE.

        `untouched`: it had answered before and not one byte of this answer came, so the server may have closed it
        between two requests, or taken the request and dropped it. `garbled`: what came was not HTTP.
        """


class Connection(asyncio.Protocol):
    """Carries requests one after the other (no pipelining)."""

    __slots__ = (
        "_at_s",
        "_body",
        "_garbled",
        "_headers",
        "_open",
        "_owner",
        "_parser",
        "_served",
        "_touched",
        "_transport",
        "idle_since_s",
        "index",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._body: list[bytes] = []
        self._headers = self._touched = self._garbled = False
        self._served = 0
        self._at_s = 0.0
        self.index = IDLE
        self.idle_since_s = 0.0

    def send(self, index: int, data: bytes) -> None:
        """Write one whole request."""
        self.index = index
        self._headers = self._touched = False
        assert self._transport is not None
        self._transport.write(data)

    def abandon(self) -> None:
        """Close at once without telling the owner; the request it carries has an outcome already."""
        self._open = False
        self.index = IDLE
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether it can carry another request."""
        return self._open

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from asyncio's
        self._open = True

    def data_received(self, data: bytes) -> None:
        self._at_s = perf_counter()
        if not self._open:
            return
        if self.index == IDLE:  # bytes without a request: such a server cannot be trusted with the next one
            self._lose()
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._garbled = True
            self._lose()

    def eof_received(self) -> bool:
        self._at_s = perf_counter()
        if self.index != IDLE and self._headers and not self._parser.should_keep_alive():
            self._finish(whole=False)  # a body without length ends with the connection
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_s = perf_counter()
        self._lose()

    # What the parser calls

    def on_headers_complete(self) -> None:
        # A status from 100 to 199 announces an answer and is none.
        self._headers = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._headers and self.index != IDLE:
            self._finish(whole=True)

    def _finish(self, whole: bool) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        index, self.index, self._body = self.index, IDLE, []
        self._headers = False
        self._served += 1
        self.idle_since_s = self._at_s
        if not whole or not self._parser.should_keep_alive():
            self._open = False
            if self._transport is not None:
                self._transport.abort()  # nothing is left to say, even where the body was not read to its end
        self._owner.answered(self, index, self._parser.get_status_code(), body, whole, self._at_s)

    def _lose(self) -> None:
        if not self._open and self.index == IDLE:
            return
        index, self.index, self._open = self.index, IDLE, False
        if self._transport is not None:
            self._transport.abort()
        untouched = self._served > 0 and not self._touched
        self._owner.broken(self, index, untouched, self._garbled, self._at_s)

"""Limits of the HTTP protocol that uvicorn leaves open.

Its parser refuses what smuggling needs: Content-Length beside Transfer-Encoding, repeated or signed lengths, bare line
feeds, folded headers. It bounds neither the size nor the time of a request's head; this class does, and it wants
exactly one well-formed Host. The number of connections is left to the operating system's limit on open files.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.outcomes import HEADERS_TOO_LARGE, MALFORMED, REQUEST_TIMEOUT, RequestError

from .errors import body_of
from .gathering import GatheringTransport

HEAD_TIMEOUT_S = 10.0
"""Time for the head of a request, from its first byte or from the start of the connection."""

HEAD_BYTES = 64 * 1024
HEAD_LINES = 100

LINGER_BYTES = 1024 * 1024
LINGER_S = 1.0
"""How much, and for how long, is still read and thrown away after a refusal. Closing a connection with unread bytes
resets it, and the client may then never see the refusal."""

ON_GONE = "headrace.on_gone"
"""Where an endpoint puts into its scope what is to be called when the client goes away. ASGI has ``receive`` for that,
which takes a task of its own for each request."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")


class _Refused(Exception):
    """Ends parsing; the reason is in ``GuardedProtocol._refusal``."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with limits on the head of a request.

    Attributes:
        head_timeout_s: a class attribute, so that tests can use a subclass with a shorter one.
    """

    head_timeout_s: ClassVar[float] = HEAD_TIMEOUT_S

    _timer: TimerHandle | None = None
    _refusal: RequestError | None = None
    _lingering = False
    _offered = False
    _in_head = False
    _chunk_bytes = 0
    _first_chunk_bytes = 0
    _unclaimed_bytes = 0
    _good_host: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        on_gone: Any = None if self.cycle is None else self.cycle.scope.get(ON_GONE)
        if on_gone is not None:
            on_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._unclaimed_bytes += len(data)
            if self._unclaimed_bytes > LINGER_BYTES:
                self.transport.close()
            return
        # Bytes that are neither body nor the end of a head or message: pieces of headers, trailers, chunk extensions.
        # The parser collects a header's pieces in memory before it says anything.
        self._chunk_bytes = len(data)
        self._unclaimed_bytes += self._chunk_bytes
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._lingering or self.transport.is_closing():
            return
        if self._unclaimed_bytes > HEAD_BYTES:
            self._refusal = self._too_large()
            self.send_400_response("")
        elif self._timer is None and (self._in_head or self._is_idle()):
            self._arm()

    def _feed(self, data: bytes) -> None:
        """Parse ``data``; an offer to speak another protocol, such as h2c, is passed over as RFC 9110 allows.

        The parser takes what follows such an offer for that protocol, the body included, so a new one gets the head
        without the offer and then the rest.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = self._feed_until_offer(rest)
        except httptools.HttpParserError:
            self.send_400_response("")

    def _feed_until_offer(self, data: memoryview) -> memoryview:
        """Parse up to the end of the first head with an offer; return what follows it."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._offered = False
            kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
            head = [b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
            head += [b"%s: %s\r\n" % header for header in kept]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"".join((*head, b"\r\n")))
            return data[offer.args[0] :]
        return data[:0]

    def on_message_begin(self) -> None:
        self._in_head = True
        self._first_chunk_bytes = self._chunk_bytes
        self._unclaimed_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._check_head()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused
            self._offered = True
            return
        self._in_head = False
        self._unclaimed_bytes = 0
        self._disarm()
        super().on_headers_complete()
        self.headers = []  # trailers must not turn up among the headers the application sees

    def on_body(self, body: bytes) -> None:
        self._unclaimed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._unclaimed_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, in the documented shape, unless that would answer another request."""
        error = self._refusal or RequestError(MALFORMED, "This is not a valid HTTP/1.1 request.")
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # a pipelined request is broken, those before it are being answered
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if cycle.response_started:
                self.transport.close()
                return
        body = body_of(error)
        status = error.outcome.status
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self._linger()

    def _linger(self) -> None:
        if cycle := self.cycle:  # for the application the client is gone
            cycle.disconnected = True
            cycle.message_event.set()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingering = True
        self._unclaimed_bytes = 0
        self.flow.resume_reading()
        self.transport.write_eof()
        self._disarm()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _check_head(self) -> None:
        headers = self.headers
        # Counting is worth it only when enough bytes have come; they may include the start of the body.
        if len(headers) > HEAD_LINES or (
            self._first_chunk_bytes + self._unclaimed_bytes > HEAD_BYTES and self._head_bytes() > HEAD_BYTES
        ):
            self._refusal = self._too_large()
            raise _Refused
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) == 1 and (hosts[0] == self._good_host or _HOST.match(hosts[0])):
            self._good_host = hosts[0]
        elif hosts or self.parser.get_http_version() != "1.0":
            self._refusal = RequestError(MALFORMED, "A request needs exactly one valid Host header.", field="Host")
            raise _Refused

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> RequestError:
        return RequestError(
            HEADERS_TOO_LARGE, f"The head of a request is at most {HEAD_BYTES} bytes and {HEAD_LINES} header lines."
        )

    def _is_idle(self) -> bool:
        """Say whether no answer is being made: nothing has come, or the last answer is complete."""
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.head_timeout_s, self._out_of_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_time(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head:
            self._refusal = RequestError(
                REQUEST_TIMEOUT, f"The head of the request was not complete after {self.head_timeout_s:g} s."
            )
            self.send_400_response("")
        elif self._is_idle():
            self.transport.close()

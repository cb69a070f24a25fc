"""Limits of the HTTP protocol that uvicorn leaves open.

Its parser refuses what smuggling needs: Content-Length beside Transfer-Encoding, repeated or signed lengths, bare line
feeds, folded headers. It bounds neither the size nor the time of a request's head; this class does, and it wants
exactly one well-formed Host. The number of connections is left to the operating system's limit on open files.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import TimerHandle
from typing import Any, ClassVar, Final

import httptools

from producer_api.inference.errors import refused
from shared.net.hosts import name_of
from shared.wire.outcomes import HEADERS_TOO_LARGE, MALFORMED, MISDIRECTED, REQUEST_TIMEOUT, RequestError, malformed

from . import responses
from .connection import Connection

HEAD_TIMEOUT_S = 10.0
"""Time for the head of a request, from its first byte or from the start of the connection."""

HEAD_BYTES = 64 * 1024
HEAD_LINES = 100

ON_GONE = "headrace.on_gone"
"""Where an endpoint puts into its scope what is to be called when the client goes away. ASGI has ``receive`` for that,
which takes a task of its own for each request."""

MOST_DIGITS = 18
"""Of a Content-Length. What is longer is no length of anything, and numbers of thousands of digits cannot be read."""

ONE_VALUE = frozenset({b"content-type", b"content-encoding", b"idempotency-key", b"origin", b"expect"})
"""Headers that must appear once. With two lines, a proxy in between may have read the other one.

Two of Authorization are no valid key (``auth.py``).
"""

END: Final = b"\r\n\r\n"
"""The end of a head, and of a body in chunks."""

_SMALL_BYTES = 4096
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class _Refused(Exception):
    """Ends parsing; the reason is in ``GuardedProtocol._refusal``."""


class GuardedProtocol(Connection):
    """uvicorn's httptools protocol with limits on the head of a request.

    Attributes:
        head_timeout_s: a class attribute, so that tests can use a subclass with a shorter one.
    """

    head_timeout_s: ClassVar[float] = HEAD_TIMEOUT_S

    _timer: TimerHandle | None = None
    _refusal: RequestError | None = None
    _offered = False
    _chunk_bytes = 0
    _first_chunk_bytes = 0
    _unclaimed_bytes = 0
    _body_left_bytes = 0
    _tail = b""
    _good_host: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        on_gone: Any = None if self.cycle is None else self.cycle.scope.get(ON_GONE)
        if on_gone is not None:
            on_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            self._drop(data)
        elif self._held or self.flow.is_held or self._must_wait():
            self._hold(data, 0)
        else:
            self._take(data, 0)

    def _take(self, data: bytes, at: int) -> None:
        self._parse(data, at)

    def _parse(self, data: bytes, at: int) -> None:
        """Parse up to the end of one request. What follows it is held: of a thousand that come at once, only one is
        more than its bytes."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        length = len(data)
        while at < length:
            end = self._end_of_piece(data, at)
            # Bytes that are neither body nor the end of a head or message: pieces of headers, trailers, chunk
            # extensions. The parser collects a header's pieces in memory before it says anything.
            self._chunk_bytes = end - at
            self._unclaimed_bytes += end - at
            if end - at < length:
                self._feed(data[at:end] if end - at < _SMALL_BYTES else memoryview(data)[at:end])
            else:
                self._feed(data)
            at = end
            if self._unclaimed_bytes > HEAD_BYTES and not self._ending:
                self._refusal = self._too_large()
                self.send_400_response("")
            if self._ending:
                return
            if not self._in_body and self._must_wait():
                break
        self._tail = (self._tail + data[-3:])[-3:] if self._in_head or self._in_body else b""
        if at < length:
            self._hold(data, at)
        elif self._closing and not self._is_idle():
            self.cycle.keep_alive = False
        if self._timer is None and (self._in_head or (self._is_idle() and not self._must_wait())):
            self._arm()

    def _end_of_piece(self, data: bytes, at: int) -> int:
        """Where the next piece ends that cannot hold more than the end of one head or one message."""
        if self._body_left_bytes:
            return min(len(data), at + self._body_left_bytes)
        if at == 0 and self._tail:
            split = (self._tail + data[: len(END)]).find(END)
            if split >= 0:
                return split + len(END) - len(self._tail)
        end = data.find(END, at)
        return len(data) if end < 0 else end + len(END)

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._pass_over(offer, memoryview(data))
        except httptools.HttpParserError:
            self.send_400_response("")

    def _pass_over(self, offer: httptools.HttpParserUpgrade, data: memoryview) -> None:
        """Ignore an offer to speak another protocol, such as h2c, as RFC 9110 allows.

        The parser takes what follows such an offer for that protocol, the body included, so a new one gets the head
        without the offer and then the rest.
        """
        self._offered = False
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
        head = [b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        head += [b"%s: %s\r\n" % header for header in kept]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join((*head, b"\r\n")))
        if rest := data[offer.args[0] :]:
            self._feed(rest)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._first_chunk_bytes = self._chunk_bytes
        self._unclaimed_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        length = self._check_head()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused
            self._offered = True
            return
        self._in_head, self._in_body, self._body_left_bytes = False, True, length
        self._unclaimed_bytes = 0
        self._disarm()
        super().on_headers_complete()
        self.headers = []  # trailers must not turn up among the headers the application sees

    def on_body(self, body: bytes) -> None:
        self._unclaimed_bytes = 0
        if self._body_left_bytes:
            self._body_left_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._unclaimed_bytes = 0
        self._in_body, self._body_left_bytes = False, 0
        super().on_message_complete()
        self.flow.resume_reading()  # a large body has paused it; without reading on we never see the client go away

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, in the documented shape, unless an answer has begun."""
        error = self._refusal or RequestError(MALFORMED, "This is not a valid HTTP/1.1 request.")
        if not self._in_head and not self._is_idle() and self.cycle.response_started:
            self.transport.close()
            return
        response = refused(error)
        response.is_last = True
        self.transport.write(responses.encode(response, self._cors_lines()))
        self.transport.close()

    def _cors_lines(self) -> bytes:
        cors = self.rules.cors
        if cors is None:
            return b""
        origin = next((value for name, value in self.headers or () if name == b"origin"), None)
        return b"".join(b"%b: %b\r\n" % header for header in cors.headers(origin))

    def _end(self) -> None:
        self._disarm()
        super()._end()

    def _check_head(self) -> int:
        """Refuse a head that is too large or says something twice or in a way that no two parsers read alike.

        Returns:
            The length of the body that the head declares, in bytes; 0 when it declares none.
        """
        headers = self.headers
        # Counting is worth it only when enough bytes have come; they may include the start of the body.
        if len(headers) > HEAD_LINES or (
            self._first_chunk_bytes + self._unclaimed_bytes > HEAD_BYTES and self._head_bytes() > HEAD_BYTES
        ):
            raise self._refused(self._too_large())
        if len(dict(headers)) != len(headers):
            self._check_repeated()
        length, hosts = 0, []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"content-length":
                length = self._length(value)
        if len(hosts) == 1 and hosts[0] == self._good_host:
            pass
        elif len(hosts) == 1 and _HOST.match(hosts[0]):
            self._check_name(hosts[0])
            self._good_host = hosts[0]
        elif hosts or self.parser.get_http_version() != "1.0":
            raise self._refused(malformed("A request needs exactly one valid Host header.", "Host"))
        if not self.url.startswith(b"/") and (absolute := _ABSOLUTE.match(self.url)):
            if not _HOST.match(absolute[1]):
                raise self._refused(malformed("The target of the request has no valid host.", "Host"))
            self._check_name(absolute[1])  # RFC 9112, section 3.2.2: this is the host then
        return length

    def _check_repeated(self) -> None:
        values: dict[bytes, bytes] = {}
        for name, value in self.headers:
            if name in ONE_VALUE and values.setdefault(name, value) != value:
                shown = name.decode().title()
                raise self._refused(malformed(f"There are two {shown} headers, which say different things.", shown))

    def _length(self, value: bytes) -> int:
        value = value.rstrip(b" \t")
        if len(value) > MOST_DIGITS or not value.isdigit():
            message = f"Content-Length is a number of at most {MOST_DIGITS} digits."
            raise self._refused(malformed(message, "Content-Length"))
        return int(value)

    def _check_name(self, host: bytes) -> None:
        hosts = self.rules.hosts
        if hosts is not None and not hosts.allows(host):
            name = name_of(host.decode("latin-1"))[:80]
            message = f"This front end does not answer to the name {name!r}; HEADRACE_ALLOWED_HOSTS can add it."
            raise self._refused(RequestError(MISDIRECTED, message, field="Host"))

    def _refused(self, error: RequestError) -> _Refused:
        self._refusal = error
        return _Refused()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> RequestError:
        return RequestError(
            HEADERS_TOO_LARGE, f"The head of a request is at most {HEAD_BYTES} bytes and {HEAD_LINES} header lines."
        )

    def _rest(self) -> None:
        if self._timer is None:
            super()._rest()

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
        elif self._is_idle() and not self._must_wait():
            self._close_unused()

"""HTTP requests from the front end to addresses that its clients name [I/O].

A name is looked up once, every address it leads to is checked, and the connection goes to an address that was checked:
what the name means a moment later ("DNS rebinding") does not matter. Redirects are not followed, proxies of the
environment are not used, and time and size are bounded. Written on asyncio's streams and httptools, since HTTP clients
look names up by themselves, at a time and place where nothing can check what they connect to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httptools

from .addresses import Address, Policy, Target

MOST_HEAD_BYTES: Final = 32 * 1024
MOST_ADDRESSES: Final = 4
"""Addresses of one name that are tried, one after the other."""

MOST_LOOKUPS: Final = 32
_PIECE_BYTES: Final = 64 * 1024

Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a name and port; may block; raises OSError."""


class Unreachable(Exception):
    """No answer: no such name, no connection, no valid certificate, or too slow. The message is a short phrase."""


class BadAnswer(Exception):
    """What answers does not speak HTTP, or says more than it may. The message is a short phrase."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a request may take: looking up the name, connecting to each address, and all of it together."""

    lookup_s: float = 5.0
    connect_s: float = 5.0
    total_s: float = 15.0


class Response:
    """The head of an answer, and its body while the connection is open.

    Attributes:
        status: of HTTP, 200 to 599.
        headers: by name in lower case; of repeated ones the first.
        address: that answered.
    """

    def __init__(self, parser: _Parser, reader: asyncio.StreamReader, address: str) -> None:
        self._parser, self._reader = parser, reader
        self.status, self.headers, self.address = parser.status, parser.headers, address

    async def pieces(self, most_bytes: int) -> AsyncIterator[bytes]:
        """Give the body as it comes.

        Raises:
            BadAnswer: it is longer than ``most_bytes``, breaks off, or is not HTTP.
        """
        count = 0
        while True:
            for piece in self._parser.take():
                count += len(piece)
                if count > most_bytes:
                    raise BadAnswer(f"the answer is longer than {most_bytes:,} bytes")
                yield piece
            if self._parser.is_complete:
                return
            await _feed(self._parser, self._reader)

    async def read(self, most_bytes: int) -> bytes:
        """Return the body; raises as :meth:`pieces`."""
        return b"".join([piece async for piece in self.pieces(most_bytes)])


class Egress:
    """Asks addresses that clients name.

    Args:
        policy: which addresses may be connected to.
        lookup: finds the addresses of a name; the system's resolver unless a test says otherwise.
        tls: whom to trust; the system's certificate authorities by default.
    """

    def __init__(self, policy: Policy, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.policy, self._lookup, self._tls, self._lookups = policy, lookup or _system_lookup, tls, 0

    async def _trusted(self) -> ssl.SSLContext:
        if self._tls is None:  # reads a hundred and more certificates
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls

    async def resolve(self, target: Target, timeout_s: float) -> list[Address]:
        """Return the addresses of a target, each of which may be connected to.

        Raises:
            AddressRefused: one of them may not: then none is, since the name may lead there next time.
            Unreachable: the name has no address, or its lookup takes too long.
        """
        if self._lookups >= MOST_LOOKUPS:
            raise Unreachable("too many names are being looked up")
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._looked_up(target.host, target.port)
        except TimeoutError:
            raise Unreachable(f"looking up {target.host} took longer than {timeout_s:g} s") from None
        except (OSError, UnicodeError):
            raise Unreachable(f"{target.host} has no address") from None
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
        if not addresses:
            raise Unreachable(f"{target.host} has no address")
        for address in addresses:
            self.policy.check(target.host, address)
        return addresses

    async def _looked_up(self, host: str, port: int) -> Sequence[str]:
        """Look a name up on a thread of its own: the resolver cannot be interrupted, and nobody shall wait for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def settle(found: Sequence[str] | None, error: Exception | None) -> None:
            self._lookups -= 1
            if not answer.done():
                answer.set_exception(error) if error is not None else answer.set_result(found or ())

        def look() -> None:
            try:
                found, error = self._lookup(host, port), None
            except Exception as failed:
                found, error = None, failed
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, found, error)

        self._lookups += 1
        threading.Thread(target=look, name="lookup", daemon=True).start()
        return await answer

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        body: bytes = b"",
        limits: Limits = Limits(),
    ) -> AsyncIterator[Response]:
        """Send a request and give its response, whatever its status; the connection closes at the end of the block.

        Args:
            headers: besides Host, Content-Length and Connection; without line breaks.

        Raises:
            AddressRefused: an address of the target may not be connected to.
            Unreachable: no answer, or the block takes longer than the total limit.
            BadAnswer: the answer is not HTTP.
        """
        try:
            async with asyncio.timeout(limits.total_s):
                addresses = await self.resolve(target, limits.lookup_s)
                reader, writer, address = await self._connect(target, addresses, limits.connect_s)
                try:
                    yield await _exchange(reader, writer, _head(method, target, headers, body) + body, address)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise Unreachable(f"{target.host} took longer than {limits.total_s:g} s") from None

    async def _connect(
        self, target: Target, addresses: Sequence[Address], timeout_s: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        trouble = ""
        for address in addresses[:MOST_ADDRESSES]:
            options: dict[str, Any] = {"limit": _PIECE_BYTES}
            if target.scheme == "https":
                options |= {"ssl": await self._trusted(), "server_hostname": target.host}
            try:
                async with asyncio.timeout(timeout_s):
                    reader, writer = await asyncio.open_connection(str(address), target.port, **options)
                return reader, writer, str(address)
            except TimeoutError:
                trouble = f"no connection within {timeout_s:g} s"
            except ssl.SSLError as error:
                trouble = f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or 'no handshake'}"
            except OSError as error:
                trouble = _reason(error)
        raise Unreachable(f"{target.host} cannot be connected to: {trouble}")


def _system_lookup(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _reason(error: OSError) -> str:
    return (error.strerror or "the connection failed") if error.errno else "the connection failed"


def _head(method: str, target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("A header must not contain a line break.")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, address: str
) -> Response:
    writer.write(message)
    with contextlib.suppress(OSError):  # it may have answered before it read everything
        await writer.drain()
    parser, count = _Parser(), 0
    while not parser.has_head:
        count += await _feed(parser, reader)
        if count > MOST_HEAD_BYTES and not parser.has_head:
            raise BadAnswer(f"the head of the answer is longer than {MOST_HEAD_BYTES:,} bytes")
    return Response(parser, reader, address)


async def _feed(parser: _Parser, reader: asyncio.StreamReader) -> int:
    """Read once; returns how many bytes came."""
    try:
        data = await reader.read(_PIECE_BYTES)
    except (OSError, ssl.SSLError):
        data = b""
    if not data and not parser.ends_with_the_connection:
        if parser.has_head:
            raise BadAnswer("the answer breaks off")
        raise Unreachable("the connection ended without an answer")
    if not data:
        parser.is_complete = True
        return 0
    parser.feed(data)
    return len(data)


class _Parser:
    """What httptools calls for an answer; answers before the final one (1xx) are passed over."""

    def __init__(self) -> None:
        self.status, self.headers, self.has_head, self.is_complete = 0, dict[str, str](), False, False
        self._pieces: list[bytes] = []
        self._http = httptools.HttpResponseParser(self)

    @property
    def ends_with_the_connection(self) -> bool:
        """Whether nothing but the end of the connection says where the body ends."""
        if not self.has_head:
            return False
        return "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "")

    def feed(self, data: bytes) -> None:
        """Parse what came.

        Raises:
            BadAnswer: it is not HTTP.
        """
        if self.is_complete:
            return
        try:
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.is_complete:
                raise BadAnswer("the answer is not valid HTTP") from None

    def take(self) -> list[bytes]:
        """Return the pieces of the body that have come since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def on_header(self, name: bytes, value: bytes) -> None:
        """Remember a header."""
        self.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        """Remember the status, unless a final one is still to come."""
        status = self._http.get_status_code()
        if status >= 200:
            self.status, self.has_head = status, True
        else:
            self.headers = {}

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        if not self.is_complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the final answer."""
        self.is_complete = self.has_head

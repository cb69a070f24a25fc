"""A port for metrics alone, on a thread of its own: bounded in connections, time and bytes [I/O].

The one of prometheus_client starts a thread for each connection and waits for ever for what it sends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from shared.net.exposure import reaches_beyond
from shared.net.hosts import Hosts, name_of
from shared.net.listener import listen
from shared.settings import Settings

EXCHANGE_S: Final = 10.0
"""Time of one connection, from its beginning to its end."""

LINGER_S: Final = 1.0
_PAUSE_S: Final = 0.2
_HOST_BYTES: Final = 300
HEAD_BYTES: Final = 16 * 1024
MOST_CONNECTIONS: Final = 32
"""With one more the oldest is closed, so that idle connections block nobody."""

_REQUEST = re.compile(rb"(GET|HEAD|[A-Z]{1,16}) (\S{1,1024}) HTTP/1\.[01]\r\n")
_HOST = re.compile(rb"(?<=\r\n)host:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_OPENMETRICS = re.compile(rb"\r\naccept:[^\r\n]*application/openmetrics-text", re.IGNORECASE)

_log = logging.getLogger("headrace.metrics")


def names_of(settings: Settings) -> Hosts:
    """Return the names that a metrics port accepts; it requires no API key."""
    names = (*(settings.allowed_hosts or ()), name_of(settings.metrics_host))
    return Hosts(names, inside=reaches_beyond(settings.metrics_host))


CONSUMER_NOT_READY: Final = "The model is not loaded yet, the consumer is stopping, or it answers nothing."


def serve(
    registry: CollectorRegistry,
    host: str,
    port: int,
    hosts: Hosts,
    is_ready: Callable[[], bool] | None = None,
    not_ready: str = CONSUMER_NOT_READY,
) -> int:
    """Serve ``/metrics`` until the process ends; returns the port.

    Args:
        port: 0 takes any free one.
        hosts: the accepted ``Host`` names.
        is_ready: what ``/readyz`` says; None for neither ``/healthz`` nor ``/readyz``.
        not_ready: the sentence that says why it is not.

    Raises:
        OSError: the address cannot be taken.
    """
    listener = listen(host, port, MOST_CONNECTIONS)
    taken: int = listener.getsockname()[1]
    server = _Server(registry, hosts, is_ready, not_ready)
    threading.Thread(target=server.run, args=(listener,), name="metrics", daemon=True).start()
    return taken


class _Server:
    def __init__(
        self, registry: CollectorRegistry, hosts: Hosts, is_ready: Callable[[], bool] | None, not_ready: str
    ) -> None:
        self._registry, self._hosts, self._is_ready, self._not_ready = registry, hosts, is_ready, not_ready
        self._open: dict[asyncio.Task[None], socket.socket] = {}

    def run(self, listener: socket.socket) -> None:
        with suppress(RuntimeError):  # the process ends
            asyncio.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no files left; a server of asyncio's own would fill the log with it
                await asyncio.sleep(_PAUSE_S)
                continue
            task = loop.create_task(self._connection(connection))
            self._open[task] = connection
            task.add_done_callback(lambda ended: self._open.pop(ended, None))
            if len(self._open) > MOST_CONNECTIONS:
                with suppress(OSError):
                    self._open.pop(next(iter(self._open))).shutdown(socket.SHUT_RDWR)

    async def _connection(self, connection: socket.socket) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(EXCHANGE_S):
                reader, writer = await asyncio.open_connection(sock=connection, limit=HEAD_BYTES)
                await self._exchange(reader, writer)
        except (TimeoutError, OSError, EOFError):  # a slow client, or one that left, gets nothing
            pass
        except Exception:
            _log.exception("Serving the metrics failed.")
        finally:
            if writer is None:
                connection.close()
            else:
                writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = b""
        writer.write(self._answer(head))
        await writer.drain()
        writer.write_eof()
        with suppress(TimeoutError):  # closing with unread bytes would take the answer back
            async with asyncio.timeout(LINGER_S):
                while await reader.read(HEAD_BYTES):
                    pass

    def _answer(self, head: bytes) -> bytes:
        request = _REQUEST.match(head)
        if request is None:
            return _response(b"400 Bad Request", b"text/plain", b"This is not a valid HTTP/1.1 request.\n")
        names = _HOST.findall(head)
        if len(names) > 1 or not all(len(name) <= _HOST_BYTES and self._hosts.allows(name) for name in names):
            return _response(b"421 Misdirected Request", b"text/plain", b"This is not called by that Host.\n")
        method, target = request.groups()
        if method not in (b"GET", b"HEAD"):
            return _response(b"405 Method Not Allowed", b"text/plain", b"GET it.\n", b"allow: GET, HEAD\r\n")
        whole = self._page(target.partition(b"?")[0], head)
        return whole if method == b"GET" else whole[: whole.index(b"\r\n\r\n") + 4]

    def _page(self, path: bytes, head: bytes) -> bytes:
        if path in (b"/healthz", b"/readyz") and self._is_ready is not None:
            if path == b"/healthz" or self._is_ready():
                return _response(b"200 OK", b"text/plain", b"ready\n")
            return _response(b"503 Service Unavailable", b"text/plain", self._not_ready.encode() + b"\n")
        if path not in (b"/metrics", b"/"):
            return _response(b"404 Not Found", b"text/plain", b"There is only /metrics.\n")
        make: Callable[[CollectorRegistry], bytes]
        if _OPENMETRICS.search(head):
            make, kind = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
        else:
            make, kind = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return _response(b"200 OK", kind.encode(), make(self._registry), b"vary: Accept\r\n")


def _response(status: bytes, kind: bytes, body: bytes, more: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-content-type-options: nosniff\r\n"
        b"cache-control: no-store\r\n%bconnection: close\r\n\r\n%b" % (status, kind, len(body), more, body)
    )

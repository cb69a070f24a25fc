"""[I/O] A server that answers every inference at once and does nothing else: what the generator is measured against.

`python -m tests.proof.null_server` serves a model `null` until it is interrupted, and prints its address.
Its faults, each off unless asked for, show that the generator and the gate notice them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final, cast

import httptools

ANSWER: Final = b'{"id":"null","model":"null","version":"1","predictions":[{"label":"nothing","index":0,"score":1.0}]}'
_CARD: Final = {
    "name": "null",
    "version": "1",
    "inputs": [{"name": "input", "datatype": "UINT8", "shape": [-1]}],
    "workers": 1,
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does. Requests for inference are numbered from 1 in the order in which they arrive."""

    stall_at: int = 0
    """The number of the request during which the whole server stands still once (0: never)."""
    stall_s: float = 0.0
    delay_s: float = 0.0
    """How long each answer takes, without holding up the others."""
    fail_every: int = 0
    """Every n-th inference is answered with `status` (0: none)."""
    status: int = 503
    silent_every: int = 0
    """Every n-th inference is never answered (0: none)."""
    drop_every: int = 0
    """At every n-th inference the connection is closed after `delay_s` and nothing is answered (0: none)."""
    close_every: int = 0
    """Connections are closed without notice after so many answers (0: never)."""
    say_close: bool = False
    """Whether `Connection: close` announces such a close."""
    chunked: bool = False
    """Whether answers come in chunks instead of with a length."""
    body: bytes = ANSWER
    ready_at: int = 1
    """The number of the first inference that succeeds; earlier ones get 503."""
    metrics: bool = True
    uncounted: int = 0
    """So many of the inferences are missing in the metrics."""


class NullServer:
    """Counts and settings that all connections of one server share."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.inferences = 0
        self.metrics_read = 0
        self.connections = 0
        self.port = 0
        self.under_way = self.most_under_way = 0
        self.arrived_s = array("d")
        self.transports: set[asyncio.Transport] = set()

    def answer(self, path: bytes) -> tuple[int, bytes]:
        """Return status and body for a path that is not an inference."""
        if path == b"/v1/models/null":
            return 200, json.dumps(_CARD).encode()
        if path == b"/v1/models":
            return 200, json.dumps({"models": [_CARD]}).encode()
        if path == b"/version":
            return 200, b'{"version":"null"}'
        if path == b"/metrics" and self.behaviour.metrics:
            self.metrics_read += 1
            counted = max(0, self.inferences - self.behaviour.uncounted)
            return 200, (
                "# TYPE headrace_requests_total counter\n"
                f'headrace_requests_total{{model="null",outcome="ok"}} {counted}\n'
                f'headrace_batch_size_bucket{{model="null",le="1.0"}} {self.inferences}\n'
                f'headrace_batch_size_bucket{{model="null",le="+Inf"}} {self.inferences}\n'
                f'headrace_batch_size_count{{model="null"}} {self.inferences}\n'
                f'headrace_batch_size_sum{{model="null"}} {self.inferences}\n'
            ).encode()
        return 404, b'{"error":{"code":"not_found","message":"there is nothing here","field":null,"id":null}}'

    def infer(self) -> tuple[int, bytes] | None:
        """Return the next inference's status and body, or None when it is never answered."""
        self.inferences += 1
        self.arrived_s.append(perf_counter())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        number, behaviour = self.inferences, self.behaviour
        if behaviour.silent_every and number % behaviour.silent_every == 0:
            return None
        if number < behaviour.ready_at or (behaviour.fail_every and number % behaviour.fail_every == 0):
            return behaviour.status, b'{"error":{"code":"no_worker","message":"not ready","field":null,"id":null}}'
        return 200, behaviour.body


class _Connection(asyncio.Protocol):
    def __init__(self, server: NullServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._answered = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections += 1
        self._server.transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        path, self._url = self._url.partition(b"?")[0], b""
        behaviour = self._server.behaviour
        if path != b"/v1/models/null/predict":
            self._reply(*self._server.answer(path), keep=self._parser.should_keep_alive())
            return
        found = self._server.infer()
        if self._server.inferences == behaviour.stall_at:
            threading.Event().wait(behaviour.stall_s)  # the loop stands still, and every connection with it
        if found is None:
            return
        if behaviour.drop_every and self._server.inferences % behaviour.drop_every == 0:
            self._loop.call_later(behaviour.delay_s, self._drop)
            return
        self._answered += 1
        keep = not (behaviour.close_every and self._answered % behaviour.close_every == 0)
        if behaviour.delay_s:
            self._loop.call_later(behaviour.delay_s, self._finish, *found, keep)
        else:
            self._finish(*found, keep)

    def _finish(self, status: int, body: bytes, keep: bool) -> None:
        self._server.under_way -= 1
        self._reply(status, body, keep)

    def _drop(self) -> None:
        self._server.under_way -= 1
        self._transport.close()

    def _reply(self, status: int, body: bytes, keep: bool) -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % status
        if not keep and self._server.behaviour.say_close:
            head += b"Connection: close\r\n"
        if self._server.behaviour.chunked:
            half = len(body) // 2
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
            self._transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        else:
            self._transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        if not keep:
            self._transport.close()


async def _listen(server: NullServer, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(server, loop), "127.0.0.1", port, backlog=1024)
    server.port = listener.sockets[0].getsockname()[1]
    return listener


async def _end(server: NullServer, listener: asyncio.Server) -> None:
    listener.close()
    await _end_connections(server)


async def _end_connections(server: NullServer) -> None:
    await asyncio.sleep(0)  # what was accepted a moment ago becomes a connection
    for transport in list(server.transports):
        transport.abort()
    await asyncio.sleep(0)  # and here each hears that it is lost


@contextmanager
def null_server(behaviour: Behaviour | None = None) -> Iterator[NullServer]:
    """Serve from a thread of this process, on a free port, while the block runs."""
    server = NullServer(behaviour or Behaviour())
    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(_listen(server, 0))
    thread = threading.Thread(target=loop.run_forever, name="null-server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_end(server, listener))
        loop.close()


def main() -> None:
    """Serve until interrupted, or with --log until the standard input ends."""
    import uvloop

    parser = argparse.ArgumentParser(description="A server whose model `null` does nothing.")
    parser.add_argument("--log", type=Path, help="write what was seen here at the end, as native doubles")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="how long each answer takes")
    options = parser.parse_args()

    async def serve() -> None:
        server = NullServer(Behaviour(delay_s=options.delay_ms / 1000))
        async with await _listen(server, 0):
            print(f"http://127.0.0.1:{server.port}", flush=True)
            if options.log is None:
                await asyncio.Event().wait()
            await asyncio.to_thread(sys.stdin.read)
            await _end_connections(server)
        options.log.write_bytes(array("d", [server.most_under_way, *server.arrived_s]).tobytes())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve())
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

"""The front end's real HTTP server over an in-memory queue, in a thread, and a client that speaks raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Generator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import uvloop
from prometheus_client.registry import CollectorRegistry

from producer_api.app import create_app
from producer_api.http import server
from producer_api.http.express_protocol import ExpressProtocol
from producer_api.inference.dialects import DIALECTS, Dialects
from producer_api.later.interface import LaterRequests
from shared.settings import Settings
from tests.fakes import InMemoryQueue, demo_queue

NAMES = ("test", "a", "other")


class _Server(server.Server):
    """The front end's own, in a thread among others: signals and the garbage collector are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def _keep_what_lives(self) -> None:
        pass


class HttpServer:
    """Runs from ``with`` to its end, on a free port."""

    def __init__(
        self,
        settings: Settings | None = None,
        protocol: type[ExpressProtocol] = ExpressProtocol,
        queue: InMemoryQueue | None = None,
        tls: server.Tls | None = None,
        dialects: Dialects = DIALECTS,
        later: LaterRequests | None = None,
    ) -> None:
        self.queue = queue or demo_queue()
        self.registry = CollectorRegistry()
        settings = settings or Settings()
        if settings.keys_file is None:  # the clients of these tests call it so
            settings = replace(settings, allowed_hosts=(*(settings.allowed_hosts or ()), *NAMES))
        self.app = create_app(settings, self.queue, self.registry, dialects=dialects, later=later)
        self._listener = server.bind("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.uvicorn = _Server(server.config(self.app, 10.0, protocol, tls))
        self._tls = tls
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http-server")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began.set()
        await self.uvicorn.serve(sockets=[self._listener])

    def settle(self, turns: int = 3) -> None:
        """Wait until the server has taken in what was sent so far: a turn of its event loop looks at every socket."""

        async def pass_by() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(pass_by(), self._loop).result()

    def connections(self) -> list[ExpressProtocol]:
        """The server's ends of the connections."""
        return [one for one in self.uvicorn.server_state.connections.copy() if isinstance(one, ExpressProtocol)]

    def hand_over(self) -> None:
        """Let the patience with incomplete bodies be over."""

        async def over() -> None:
            for connection in self.connections():
                connection._hand_over()

        asyncio.run_coroutine_threadsafe(over(), self._loop).result()

    def metric(self, name: str, **labels: str) -> float:
        """Value of one sample, 0 when there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def release(self) -> None:
        """Let the queue go on, from any thread."""
        self._loop.call_soon_threadsafe(self.queue.release)

    def stop(self) -> None:
        """Begin to drain; returns at once."""
        self.uvicorn.should_exit = True

    def wait(self) -> None:
        """Wait until everything is drained."""
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        self._began.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.wait()

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(self.port, None if self._tls is None else self._tls.cert_file)

    def get(self, target: str) -> tuple[int, dict[str, str], Any]:
        """Ask on a connection of its own."""
        with self.connect() as connection:
            connection.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            return connection.response()


class Connection:
    """One TCP connection; nothing is checked or corrected before it is sent.

    Args:
        trusted: file with the server's certificate; None for a connection without TLS.
    """

    def __init__(self, port: int, trusted: str | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if trusted is not None:
            self._socket = ssl.create_default_context(cafile=trusted).wrap_socket(
                self._socket, server_hostname="127.0.0.1"
            )
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()
        self._socket.close()

    def ports(self) -> tuple[int, int]:
        """Its port here and there."""
        return self._socket.getsockname()[1], self._socket.getpeername()[1]

    def fileno(self) -> int:
        """So that ``select`` can say whether something has come."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def some(self, most: int) -> bytes:
        """Read what is there, at most ``most`` bytes; not for use beside :meth:`response`."""
        return self._socket.recv(most)

    def rest(self) -> bytes:
        """Say that nothing more comes, and read to the end of the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def reset(self) -> None:
        """Close at once, without the ordinary farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.__exit__()

    def post(self, model: str, body: bytes, headers: str = "") -> None:
        """Send a whole predict request with raw bytes."""
        kind = "Content-Type: application/octet-stream\r\n"
        head = f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: test\r\n{kind}{headers}"
        self.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def response(self) -> tuple[int, dict[str, str], Any]:
        """Read one response: status, headers, body (parsed when it is JSON)."""
        status_line = self._file.readline()
        assert status_line.startswith(b"HTTP/1.1 "), status_line
        headers: dict[str, str] = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        body: Any = self._file.read(int(headers.get("content-length", "0")))
        if headers.get("content-type") == "application/json":
            body = json.loads(body)
        return int(status_line.split()[1]), headers, body

    def closed(self) -> bool:
        """Wait for the server to end the connection; False when it sends something instead."""
        try:
            return self._file.read(1) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return True

"""A real HTTP server on 127.0.0.1 that receives webhooks, and answers as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec

Answer = tuple[int, Mapping[str, str]]


@dataclass(frozen=True)
class Received:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def type(self) -> str:
        return str(self.document["type"])


class Receiver:
    """Runs from ``with`` to its end; ``answer`` says the status and headers for each request, 204 unless told."""

    def __init__(self, answer: Callable[[Received], Answer] = lambda received: (204, {}), port: int = 0) -> None:
        self.received: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                names = {name.lower(): value for name, value in self.headers.items()}
                received = Received(self.path, names, body)
                receiver.received.append(received)
                status, headers = answer(received)
                self.send_response_only(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook") -> str:
        """Address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def types(self) -> list[str]:
        """Which events came, in order."""
        return [one.type for one in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

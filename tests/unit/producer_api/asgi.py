"""Calls an ASGI application in this process, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgpack
from prometheus_client.registry import CollectorRegistry
from starlette.types import ASGIApp, Message

from producer_api.app import create_app
from shared.settings import Settings
from shared.tracing.spans import Tracing
from tests.fakes import InMemoryQueue, demo_queue

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; NaN and Infinity, which JSON does not have, fail."""
        return json.loads(self.body, parse_constant=_refuse)

    @property
    def error(self) -> Any:
        """The error in the documented shape."""
        assert self.headers["content-type"] == "application/json"
        document = self.json
        assert set(document) == {"error"}
        assert set(document["error"]) == {"code", "message", "field", "id"}
        assert document["error"]["message"].endswith(".")
        return document["error"]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


async def call(
    app: ASGIApp,
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes | Sequence[bytes | None] = b"",
    *,
    length: bool = True,
) -> Response:
    """Send one request; several ``body`` parts arrive one by one, and one that is None never comes."""
    parts: list[bytes | None] = [body] if isinstance(body, bytes) else list(body)
    path, _, query = target.partition("?")
    sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    if length and isinstance(body, bytes) and not any(name == b"content-length" for name, _ in sent):
        sent.append((b"content-length", str(len(body)).encode()))
    elif not isinstance(body, bytes):
        sent.append((b"transfer-encoding", b"chunked"))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"test"), *sent],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
        "state": {},
    }
    answers: list[Message] = []

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        answers.append(message)

    await app(scope, receive, send)
    if not answers:
        return Response(0, {}, b"")
    found = {name.decode(): value.decode() for name, value in answers[0]["headers"]}
    whole = b"".join(message.get("body", b"") for message in answers[1:])
    if method != "HEAD" and answers[0]["status"] != 304:
        assert int(found["content-length"]) == len(whole)
    return Response(answers[0]["status"], found, whole)


class Api:
    """An application over an in-memory queue, with a loop of its own; use it as a context manager."""

    def __init__(
        self,
        settings: Settings | None = None,
        queue: InMemoryQueue | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.queue = queue or demo_queue()
        self.registry = CollectorRegistry()
        self.app = create_app(settings or Settings(), self.queue, self.registry, commit="abc123", tracing=tracing)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.run(self.queue.start())
        return self

    def __exit__(self, *problem: object) -> None:
        self._runner.run(self.queue.close())
        self._runner.close()

    def get(self, target: str, headers: Headers = (), method: str = "GET") -> Response:
        """Send a request without a body."""
        return self._runner.run(call(self.app, method, target, headers))

    def post(
        self,
        model: str,
        body: bytes | Sequence[bytes | None],
        content_type: str | None = "application/octet-stream",
        query: str = "",
        headers: Headers = (),
    ) -> Response:
        """Send a predict request."""
        sent = [*headers, *((("Content-Type", content_type),) if content_type else ())]
        target = f"/v1/models/{model}/predict" + (f"?{query}" if query else "")
        return self._runner.run(call(self.app, "POST", target, sent, body))

    def json(self, model: str, value: Any, headers: Headers = ()) -> Response:
        """Send a predict request in JSON."""
        return self.post(model, json.dumps(value).encode(), "application/json", headers=headers)

    def msgpack(self, model: str, value: Any, headers: Headers = ()) -> Response:
        """Send a predict request in msgpack."""
        return self.post(model, msgpack.packb(value), "application/msgpack", headers=headers)

    def together(self, *requests: Any) -> list[Response]:
        """Await several calls of :func:`call` at once."""

        async def gather() -> list[Response]:
            return list(await asyncio.gather(*requests))

        return self._runner.run(gather())

    def metric(self, name: str, **labels: str) -> float | None:
        """Value of one sample."""
        return self.registry.get_sample_value(name, labels)

"""GET /console/state, /console/events and /console/history: how things stand, once or as events, and how they stood."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from producer_api.auth import Client
from producer_api.console.access import require_read
from producer_api.console.data import ConsoleData
from producer_api.console.feed.hub import Listener
from producer_api.queue.admission import find_model
from producer_api.queue.interface import Queue
from producer_api.routes.gone import ClientGone, ended_with_client
from shared.wire.outcomes import NOT_FOUND, UNKNOWN_LANE, RequestError, malformed

STATE: Final = "/console/state"
EVENTS: Final = "/console/events"
HISTORY: Final = "/console/history"
MOST_MINUTES: Final = 1440
MOST_POINTS: Final = 2000
PING_S: Final = 5.0
RETRY_MS: Final = 2000

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until a buffer is full
]
_NO_STORE: Final = {"Cache-Control": "no-store"}


def routes(data: ConsoleData, queue: Queue) -> list[BaseRoute]:
    """Make the routes."""

    async def state(request: Request) -> Response:
        require_read(request)
        document = await data.hub.once(_model(request, queue))
        return Response(document, headers=_NO_STORE, media_type="application/json")

    async def history(request: Request) -> Response:
        require_read(request)
        model = _model(request, queue)
        if not model:
            raise malformed("Name a model.", "model")
        lane, minutes = _one(request, "lane"), _whole(request, "minutes", 60, MOST_MINUTES)
        points = _whole(request, "points", 360, MOST_POINTS)
        if lane and lane not in find_model(queue.catalogue(), model, "").lanes:
            raise RequestError(UNKNOWN_LANE, f"Model {model} has no lane {lane[:64]!r}.", field="lane")
        if data.reader is None:
            raise RequestError(NOT_FOUND, "No history is kept here: HEADRACE_HISTORY_MB=0.")
        columns = await data.reader.read(model, lane, minutes, points)
        return Response(columns, headers=_NO_STORE, media_type="application/json")

    return [
        Route(HISTORY, history, methods=["GET"], include_in_schema=False),
        Route(STATE, state, methods=["GET"], include_in_schema=False),
        Route(EVENTS, Events(data, queue), methods=["GET"], include_in_schema=False),
    ]


def _model(request: Request, queue: Queue) -> str:
    """Return the model that the query names; empty for none.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, or it is named twice.
    """
    name = _one(request, "model")
    return find_model(queue.catalogue(), name, "").name if name else ""


def _one(request: Request, name: str) -> str:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise malformed(f"Give one {name}, not {len(values)}.", name)
    return values[0] if values else ""


def _whole(request: Request, name: str, default: int, most: int) -> int:
    text = _one(request, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise malformed(f"{name} must be a whole number from 1 to {most}.", name)
    return int(text)


class Events:
    """The stream. A plain ASGI callable: one task and one document for each client."""

    def __init__(self, data: ConsoleData, queue: Queue) -> None:
        self._data, self._queue = data, queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; ends with the client, its key, or the front end."""
        with suppress(ClientGone), ended_with_client(scope):
            request = Request(scope)
            require_read(request)
            model, hub = _model(request, self._queue), self._data.hub
            if request.method == "HEAD":
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await send({"type": "http.response.body", "body": b""})
                return
            listener = hub.enter(model)
            try:
                await _stream(send, listener, scope.get("api_client"))
            finally:
                hub.leave(listener)


async def _stream(send: Send, listener: Listener, client: Client | None) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"retry: %d\n\n" % RETRY_MS, "more_body": True})
    while not listener.is_over and (client is None or not client.revoked):
        document = await listener.next(PING_S)
        if listener.is_over:
            break
        event = b": here\n\n" if document is None else b"event: state\ndata: %b\n\n" % document
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0)  # where a client takes everything at once, others have their turn
    await send({"type": "http.response.body", "body": b""})

"""GET /console/state and /console/events: how models, workers and lanes stand now, once or as server-sent events."""

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
from producer_api.console.feed.feed import Feed
from producer_api.console.feed.hub import Listener
from producer_api.queue.admission import find_model
from producer_api.queue.interface import Queue
from producer_api.routes.gone import ClientGone, ended_with_client
from shared.wire.outcomes import malformed

STATE: Final = "/console/state"
EVENTS: Final = "/console/events"
PING_S: Final = 5.0
RETRY_MS: Final = 2000

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until a buffer is full
]
_NO_STORE: Final = {"Cache-Control": "no-store"}


def routes(feed: Feed, queue: Queue) -> list[BaseRoute]:
    """Make the routes."""

    async def state(request: Request) -> Response:
        require_read(request)
        document = await feed.hub.once(_model(request, queue))
        return Response(document, headers=_NO_STORE, media_type="application/json")

    return [
        Route(STATE, state, methods=["GET"], include_in_schema=False),
        Route(EVENTS, Events(feed, queue), methods=["GET"], include_in_schema=False),
    ]


def _model(request: Request, queue: Queue) -> str:
    """Return the model that the query names; empty for none.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, or it is named twice.
    """
    names = request.query_params.getlist("model")
    if len(names) > 1:
        raise malformed("Name one model.", "model")
    return find_model(queue.catalogue(), names[0], "").name if names and names[0] else ""


class Events:
    """The stream. A plain ASGI callable: one task and one document for each client."""

    def __init__(self, feed: Feed, queue: Queue) -> None:
        self._feed, self._queue = feed, queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; ends with the client, its key, or the front end."""
        with suppress(ClientGone), ended_with_client(scope):
            request = Request(scope)
            require_read(request)
            model, hub = _model(request, self._queue), self._feed.hub
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

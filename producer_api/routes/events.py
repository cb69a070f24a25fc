"""GET /v1/models/{model}/requests/{id}/events: how a later request goes on, as server-sent events.

A plain ASGI callable: one task and a few kilobytes for each client, since a thousand may listen at once. The format is
that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import UNSET
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from producer_api.inference.context import AppContext
from producer_api.inference.encoding import json_encoder
from producer_api.inference.later.responses import location
from producer_api.later.jobs import State
from producer_api.later.listening import Listener
from producer_api.parsing.schemas import RequestEvent
from producer_api.queue.interface import ModelState
from shared.wire.outcomes import UNKNOWN_REQUEST, RequestError

from .gone import ClientGone, ended_with_client
from .requests import choice_of, listening, names_of, place

PATH = "/v1/models/{model}/requests/{id}/events"
PING_S = 15.0
RETRY_MS = 2000
"""After so long a browser connects again when a stream breaks off."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until a buffer is full
]


async def _place_of(context: AppContext, request: Request, model: str, request_id: str) -> tuple[ModelState, str]:
    """Return the model and the lane that has the request, the last lane that could where none has."""
    assert context.later is not None
    known = context.queue.catalogue().resolve(model, request_id)
    *others, last = choice_of(request).lanes(() if known is None else known.batch_lanes)
    for lane in others:
        state = place(context.queue, model, request_id, lane)
        if (await context.later.find(state.name, lane, request_id))[0] is not None:
            return state, lane
    return place(context.queue, model, request_id, last), last


class Events:
    """The endpoint; one instance serves all of its requests.

    Attributes:
        ping_s: after so long without an event a comment is sent, so that proxies keep the connection.
    """

    def __init__(self, context: AppContext) -> None:
        self._context, self.ping_s = context, PING_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; ends with the later request, the client, or the front end."""
        with suppress(ClientGone), ended_with_client(scope):
            await self._answer(Request(scope), send)

    async def _answer(self, request: Request, send: Send) -> None:
        context = self._context
        model, request_id = names_of(request)
        if context.later is None:
            raise _none_such(request_id)
        state, lane = await _place_of(context, request, model, request_id)
        with listening(context, request, state.name, lane, request_id) as listener:
            job, _ = await context.later.find(state.name, lane, request_id)
            if job is None:
                raise _none_such(request_id)
            listener.seen(job)
            await self._stream(
                send, model, listener, request.headers.get("last-event-id", ""), request.method == "HEAD"
            )

    async def _stream(self, send: Send, model: str, listener: Listener, said: str, is_head: bool) -> None:
        """Send what changes, and after the end the end of the stream."""
        if listener.has_ended and said == _name(listener):  # so that a browser does not connect for ever
            await send({"type": "http.response.start", "status": 204, "headers": _HEADERS[1:]})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if is_head:
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.body", "body": b"retry: %d\n\n" % RETRY_MS, "more_body": True})
        while True:
            name = _name(listener)
            if name != said:
                said = name
                await send({"type": "http.response.body", "body": _event(model, name, listener), "more_body": True})
            if listener.has_ended or listener.is_over:
                break
            if not await listener.change(self.ping_s):
                await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _name(listener: Listener) -> str:
    """Return the id of the event that says how a request stands: what is the same need not be sent again."""
    state = listener.state or State.QUEUED
    return f"{state}-{listener.position}" if listener.position else state.value


def _event(model: str, name: str, listener: Listener) -> bytes:
    """Encode an event."""
    state = listener.state or State.QUEUED
    where = location(model, listener.request_id)
    said = RequestEvent(listener.request_id, model, state, where, listener.position or UNSET, listener.code or UNSET)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (name.encode(), state.encode(), json_encoder.encode(said))


def _none_such(request_id: str) -> RequestError:
    message = "There is no later request of this id; only those sent with Prefer: respond-async have events."
    return RequestError(UNKNOWN_REQUEST, message, request_id=request_id)

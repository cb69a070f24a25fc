"""What an exchange needs for answers that are sent as they are made, and for requests that waited before they began."""

from __future__ import annotations

import math

import msgspec

from producer_api.queue.admission import refusal
from producer_api.queue.interface import Queue, Standing
from producer_api.streaming.events import EventStream
from shared.wire.messages import Request
from shared.wire.outcomes import EXPIRED, UNKNOWN_REQUEST, RequestError

from .codec import Response

EVENTS_TYPE = "text/event-stream"

_HEADERS = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
"""nginx would keep events back until a buffer is full."""


def response_of(stream: EventStream, request_id: str) -> Response:
    """Return the response whose body is a stream of events."""
    return Response(200, EVENTS_TYPE, b"", _HEADERS, request_id, events=stream)


async def found_again(queue: Queue, model: str, request_id: str, lane: str) -> None:
    """See that there is an answer to go on with.

    Raises:
        RequestError: ``UNKNOWN_REQUEST``, or as ``Queue.find``.
    """
    if await queue.find(model, request_id, lane) is Standing.UNKNOWN:
        message = "There is no answer to go on with; its time may be over. Ask again without Last-Event-ID."
        raise RequestError(UNKNOWN_REQUEST, message, field="Last-Event-ID", request_id=request_id)


def time_left(request: Request, held_s: float) -> Request:
    """Return a request that has waited, with the time to live that is left.

    Raises:
        RequestError: ``EXPIRED``.
    """
    left_ms = request.ttl_ms - math.ceil(held_s * 1000)
    if left_ms < 1:
        raise refusal(EXPIRED, "The deadline passed before a consumer was ready.", request.id)
    return msgspec.structs.replace(request, ttl_ms=left_ms)

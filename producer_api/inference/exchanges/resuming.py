"""What an exchange needs for answers that are sent as they are made, and for work that takes long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from producer_api.inference.codec import Response
from producer_api.queue.interface import Queue, Standing
from producer_api.streaming.events import EventStream
from producer_api.streaming.plain_events import EVENTS_TYPE
from shared.wire.outcomes import UNKNOWN_REQUEST, RequestError

T = TypeVar("T")

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


async def then(work: Callable[[], Awaitable[T]], go_on: Callable[[T], None], fail: Callable[[Exception], None]) -> None:
    """Do what takes long, and go on with what came of it."""
    try:
        go_on(await work())
    except Exception as error:
        fail(error)

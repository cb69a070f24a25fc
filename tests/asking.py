"""Asks a queue as a front end does: what it admits goes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from producer_api.queue.admission import admit, check_lane
from producer_api.queue.interface import Answer, GiveUp, ModelState, Queue
from shared.keys import DEFAULT_LANE
from shared.wire.messages import Request
from shared.wire.outcomes import RequestError


def admitted(queue: Queue, model: str, request: Request, lane: str) -> ModelState:
    """Return the model that takes the request."""
    state = admit(queue.catalogue(), model, request.id)
    check_lane(state, lane)
    return state


def begin(
    queue: Queue,
    model: str,
    request: Request,
    *,
    id_is_generated: bool,
    done: Callable[[Answer | RequestError], None],
    lane: str = DEFAULT_LANE,
) -> GiveUp:
    """See :meth:`Queue.begin`."""
    state = admitted(queue, model, request, lane)
    return queue.begin(state, request, id_is_generated=id_is_generated, done=done, lane=lane)


async def submit(
    queue: Queue,
    model: str,
    request: Request,
    *,
    id_is_generated: bool,
    fingerprint: str = "",
    lane: str = DEFAULT_LANE,
) -> Answer:
    """Wait for the reply; given up when cancelled.

    Raises:
        RequestError: whatever ended it instead of an answer.
    """
    state = admitted(queue, model, request, lane)
    future: asyncio.Future[Answer | RequestError] = asyncio.get_running_loop().create_future()

    def done(result: Answer | RequestError) -> None:
        if not future.done():
            future.set_result(result)

    give_up = queue.begin(
        state, request, id_is_generated=id_is_generated, done=done, fingerprint=fingerprint, lane=lane
    )
    try:
        result = await future
    except asyncio.CancelledError:
        give_up()
        raise
    if isinstance(result, RequestError):
        raise result
    return result

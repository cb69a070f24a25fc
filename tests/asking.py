"""Asks a queue as a front end does: what it admits goes in."""

from __future__ import annotations

from collections.abc import Callable

from producer_api.queue import interface
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
    """Wait for the reply."""
    state = admitted(queue, model, request, lane)
    return await interface.submit(
        queue, state, request, id_is_generated=id_is_generated, fingerprint=fingerprint, lane=lane
    )

"""The time to live of a request that has waited before it went into the queue. Pure."""

from __future__ import annotations

import math

import msgspec

from producer_api.queue.admission import refusal
from shared.wire.messages import Request
from shared.wire.outcomes import EXPIRED


def time_left(request: Request, held_s: float) -> Request:
    """Return a request that has waited, with the time to live that is left.

    Raises:
        RequestError: ``EXPIRED``.
    """
    left_ms = request.ttl_ms - math.ceil(held_s * 1000)
    if left_ms < 1:
        raise refusal(EXPIRED, "The deadline passed before a consumer was ready.", request.id)
    return msgspec.structs.replace(request, ttl_ms=left_ms)

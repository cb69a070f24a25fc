"""Sets the delivery of webhooks up: what it signs with, where it looks, and the results that it may send."""

from __future__ import annotations

from collections.abc import Callable

from producer_api.inference.codec import Response
from producer_api.inference.encoding import size_of
from producer_api.inference.native import NATIVE
from producer_api.inference.negotiation import JSON
from producer_api.net.addresses import Policy
from producer_api.net.egress import Egress
from producer_api.queue.interface import Queue
from producer_api.webhooks.courier import Courier, Instruments, Result
from shared.redis.client import connect_async
from shared.settings import Settings
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError

SMALL_BYTES = 4096
"""What a result may have in binary to be sent along: encoding it takes no time, and it makes no long webhook."""


def make_courier(settings: Settings, queue: Queue, instruments: Callable[[], Instruments]) -> Courier | None:
    """Return what delivers webhooks; None without a secret to sign them with.

    Args:
        queue: where results are found, and which lanes there are.
        instruments: made if it is needed.
    """
    if not settings.webhook_secrets:
        return None

    def lanes() -> list[tuple[str, str]]:
        catalogue = queue.catalogue()
        return [(name, lane) for name, state in catalogue.models.items() for lane in state.lanes]

    return Courier(
        connect_async(settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True),
        Egress(Policy.of(settings)),
        settings.webhook_secrets,
        lanes,
        results_of(queue),
        settings.public_url or "",
        instruments(),
    )


def results_of(queue: Queue) -> Result:
    """Return what finds the small results of a queue."""

    async def find(model: str, lane: str, request_id: str) -> bytes | None:
        try:
            found = await queue.find(model, request_id, lane)
        except RequestError:
            return None
        if not isinstance(found, Reply) or found.fault is not None or found.at_store is not None:
            return None  # what lies in the result store is not small
        if size_of(found) > SMALL_BYTES:
            return None
        timing = found.timing
        made = NATIVE.encode(found, JSON, (timing.queue + timing.wait + timing.run) / 1e6, None, is_short=True)
        return bytes(made.body) if isinstance(made, Response) else None

    return find

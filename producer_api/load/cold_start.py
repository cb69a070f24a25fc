"""In how many seconds a model that no consumer serves will probably be served, for requests that would wait for it.

Pure: the time comes in as an argument, in milliseconds on Redis's clock. A request may wait where a start is expected
to succeed: a consumer loads, a supervisor is about to start one, or, with nobody at it, the last start that was tried
has succeeded and it is known what it took. Where the last start failed, requests are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.state.failures import Failure
from shared.state.starts import Phase, Start, left_ms, usual

from .wait_estimate import SHARE, Service


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What is known of the consumer that a cold model will have.

    Attributes:
        in_s: seconds until it probably serves.
        is_coming: it loads, or a supervisor is about to start it. Else nobody starts it yet, and ``in_s`` is what a
            start took when one was last measured.
        service: what it gets done, None if the model's card does not say.
    """

    in_s: int
    is_coming: bool
    service: Service | None = None

    def wait_s(self, ahead: int, slowness: float) -> float:
        """Return the seconds until a request probably has its answer.

        Args:
            ahead: requests that were sent before it.
            slowness: see :class:`producer_api.load.wait_estimate.Backlog`.
        """
        service = self.service
        if service is None:
            return float(self.in_s)
        return self.in_s + (ahead / service.rate + service.batch_s) * slowness / SHARE


def cold_start(
    ready_in_s: int | None,
    found: Mapping[str, Start],
    died: Mapping[str, Failure],
    now_ms: int,
    service: Service | None,
) -> ColdStart | None:
    """Tell when a model without a live consumer is probably served; None where no start is expected to succeed.

    Args:
        ready_in_s: seconds that are left while a consumer loads, or was promised.
        found: what its consumers said of their starts, by their place.
        died: what supervisors say, by the same places.
        service: what one consumer gets done, if that is known.
    """
    if ready_in_s is not None:
        return ColdStart(ready_in_s, True, service)
    restart_ms = _restart_ms(found, died, now_ms)
    if restart_ms is not None:
        return ColdStart(math.ceil(restart_ms / 1000), True, service)
    measured_ms = _measured_ms(found, died)
    return None if measured_ms is None else ColdStart(math.ceil(measured_ms / 1000), False, service)


def _restart_ms(found: Mapping[str, Start], died: Mapping[str, Failure], now_ms: int) -> int | None:
    """Return how long the first consumer takes that a supervisor starts again and that will probably serve.

    That is one that had served: it is expected to serve again.
    """
    left = []
    for place, failure in died.items():
        start = found.get(place)
        if start is None or start.phase is not Phase.READY:
            continue
        usual_ms = start.took_ms or usual(found)
        pause_ms = failure.retry_at_ms - now_ms
        left.append(pause_ms + usual_ms if pause_ms > 0 else left_ms(usual_ms, -pause_ms))
    return min(left, default=None)


def _measured_ms(found: Mapping[str, Start], died: Mapping[str, Failure]) -> int | None:
    """Return what the last start took, if it succeeded and its consumer left in peace, as far as is known."""
    last = max(found, key=lambda place: found[place].seen_ms, default=None)
    if last is None or last in died or found[last].phase is not Phase.READY:
        return None
    return found[last].took_ms or None

"""Which models without a live consumer are loading or about to, and how long that will take.

Pure: the time comes in as an argument, in milliseconds on Redis's clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from shared.state.failures import Failure
from shared.state.starts import Phase, Start, left_ms, ready_in_ms, usual

PATIENCE_MS = 60_000
"""So long after its first look a front end expects the first word of a consumer that it was promised."""

SECOND_CHANCES = 1
"""Starts that may fail, one after the other, before the next one is not expected to serve."""


class LoadingModels:
    """Knows what a front end was promised, and since when it looks.

    Args:
        names: models that are configured: their consumers are there, or on their way.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._silent = set(self.names)
        self._begun_ms: int | None = None
        self._served_ms: dict[str, int] = {}

    def ready_in_s(
        self, name: str, workers: int, found: Mapping[str, Start], died: Mapping[str, Failure], now_ms: int
    ) -> int | None:
        """Return in how many seconds a model will probably be served; None when it is served, or nothing comes.

        Args:
            workers: consumers of it that live.
            found: what its consumers say of their starts, by their place.
            died: what supervisors say, by the same places.
        """
        self._begun_ms = begun_ms = now_ms if self._begun_ms is None else self._begun_ms
        if workers:
            self._served_ms[name] = now_ms
        left = ready_in_ms(found, now_ms, hopeless(found, died))
        if left is None and self._is_about_to_serve(name, found, now_ms):
            left = 1000
        if workers or left is not None or died or any(one.seen_ms >= begun_ms for one in found.values()):
            self._silent.discard(name)
        elif name in self._silent and now_ms - begun_ms < PATIENCE_MS:
            left = left_ms(usual(found), now_ms - begun_ms)
        return None if workers or left is None else math.ceil(left / 1000)

    def _is_about_to_serve(self, name: str, found: Mapping[str, Start], now_ms: int) -> bool:
        """Say whether a consumer has just reported that its model is ready, and has not been seen serving since."""
        served_ms = self._served_ms.get(name, -1)
        return any(
            one.phase is Phase.READY and served_ms < one.seen_ms and one.is_under_way(now_ms) for one in found.values()
        )


def hopeless(found: Mapping[str, Start], died: Mapping[str, Failure]) -> set[str]:
    """Return the places whose start is not expected to succeed.

    A place whose consumer died, by its supervisor's report, until it starts again, and also then if it had not served;
    without a supervisor's report, a place that failed again and again.
    """
    return {
        place
        for place, one in found.items()
        if (died[place].retry_at_ms > one.since_ms or one.failed if place in died else one.failed > SECOND_CHANCES)
    }

"""Bounds the requests that wait for a consumer of a model that has none. Pure; all times are in seconds.

They may hold half of this front end's places, so that other models go on, and their bodies as much as half of what
incomplete bodies may hold. Where nobody starts a consumer although requests have waited for it, further ones
are refused for a while: a model that was switched off for good looks like one that is started when it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

HEED_S = 120.0
"""So long after the first request that waits, something should have begun to start a consumer: what scales by the
length of a queue looks every half a minute, and then has to find a machine."""

REFUSE_S = 60.0
"""So long requests are refused when nothing has."""

LONG_S = 3600.0
"""A request with so much time may wait for a person."""


class Place:
    """One request that waits. Each that was taken is to be left; twice does no harm."""

    __slots__ = ("_all", "_model", "_size_bytes")

    def __init__(self, all: ColdRoom, model: str, size_bytes: int) -> None:
        self._all, self._model, self._size_bytes = all, model, size_bytes

    def leave(self) -> None:
        """Give it back."""
        size_bytes, self._size_bytes = self._size_bytes, 0
        self._all._left(self, self._model, size_bytes)


class ColdRoom:
    """All requests of a front end that wait for a consumer to live.

    Args:
        most: requests at once.
        most_bytes: what the bodies may take that are kept here, not in the queue.

    Attributes:
        held_bytes: what they take.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes, self.held_bytes = most, most_bytes, 0
        self._places: dict[str, set[Place]] = {}
        self._asked_s: dict[str, float] = {}

    def counts(self) -> Mapping[str, int]:
        """Return how many requests wait, by model; a model for which some have waited stays at 0."""
        return {model: len(places) for model, places in list(self._places.items())}

    def enter(self, model: str, size_bytes: int = 0) -> Place | None:
        """Take a place and room for a body; None when there is none. An empty room takes a body of any size."""
        if sum(map(len, self._places.values())) >= self.most:
            return None
        if size_bytes and self.held_bytes and self.held_bytes + size_bytes > self.most_bytes:
            return None
        self.held_bytes += size_bytes
        place = Place(self, model, size_bytes)
        self._places.setdefault(model, set()).add(place)
        return place

    def _left(self, place: Place, model: str, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
        self._places[model].discard(place)

    def refused_for_s(self, model: str, limit_s: float, now_s: float) -> int:
        """Note that a request waits for a model that nobody starts; returns 0, or for how long it is refused instead.

        Args:
            limit_s: what its answer may take.
        """
        asked_s = self._asked_s.setdefault(model, now_s)
        if limit_s >= LONG_S or now_s - asked_s < HEED_S:
            return 0
        left_s = asked_s + HEED_S + REFUSE_S - now_s
        if left_s > 0:
            return math.ceil(left_s)
        self._asked_s[model] = now_s
        return 0

    def heeded(self, model: str) -> None:
        """Note that a consumer of it is coming, or lives."""
        self._asked_s.pop(model, None)

    def served(self, model: str) -> None:
        """Note that it is served: what waits now waits in the queue like everything else."""
        self.heeded(model)
        if places := self._places.get(model):
            places.clear()

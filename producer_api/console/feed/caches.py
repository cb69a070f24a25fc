"""How many requests of a model have lately had an answer from the front end's cache. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from .documents import CacheState
from .window import WINDOW_S

_SLACK_S: Final = 0.5


class CacheCounts(Struct, frozen=True):
    """What a cache has done so far, and what it holds now.

    Attributes:
        hits: requests that were answered with what was there, or with the answer of an equal one under way.
        misses: requests that went into the queue, for others, too.
    """

    hits: int
    misses: int
    entries: int
    bytes: int
    limit_bytes: int


class CacheWindow:
    """Keeps what the counts were some seconds ago."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Mapping[str, CacheCounts]]] = deque()

    def note(self, now_s: float, counts: Mapping[str, CacheCounts]) -> None:
        """Take in the counts at the monotonic time ``now_s``."""
        kept = self._kept
        kept.append((now_s, counts))
        while len(kept) > 2 and kept[1][0] <= now_s - WINDOW_S + _SLACK_S:
            kept.popleft()

    def lately(self) -> dict[str, CacheState]:
        """Return how each model's cache does; the share is unknown where nothing was asked for."""
        if not self._kept:
            return {}
        (then_s, old), (now_s, new) = self._kept[0], self._kept[-1]
        span_s = now_s - then_s
        found = {}
        for model, one in new.items():
            before = old.get(model) or CacheCounts(0, 0, 0, 0, 0)
            hits, misses = one.hits - before.hits, one.misses - before.misses
            found[model] = CacheState(
                hit_ratio=round(hits / (hits + misses), 4) if hits + misses > 0 else None,
                hits_rate=round(hits / span_s, 3) if span_s > 0 else 0.0,
                entries=one.entries,
                bytes=one.bytes,
                bytes_limit=one.limit_bytes,
            )
        return found

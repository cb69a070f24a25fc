"""When to write, for which ten seconds, and what of it has not been written yet. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from producer_api.console.feed.counts import Counts, Place

from .rows import DAY_SLOTS, STEP_MS, Gauges, Row, lane_rows

EARLY_MS: Final = 500
"""A tick that comes this much too early is meant for the slot that is about to end."""

MOST_PENDING: Final = 2000
"""Rows that wait for Redis to come back; then the oldest are dropped."""

JUMP_MS: Final = 60_000
ENTRY_BYTES: Final = 64
"""What the server needs for an entry beside its row, about."""

FEWEST_ENTRIES: Final = 360


def slot_ended(now_ms: float) -> int:
    """Return the slot that has just ended, or ends in a moment."""
    return int(now_ms + EARLY_MS) // STEP_MS - 1


def pause_s(now_ms: float) -> float:
    """Return the seconds until the next slot ends."""
    return (STEP_MS - (now_ms + EARLY_MS) % STEP_MS + EARLY_MS) / 1000


class Ledger:
    """Makes the rows of one front end.

    Args:
        who: its name.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._ticks = 0
        self._written: dict[str, int] = {}
        self._gauges: dict[str, Gauges] = {}
        self.pending: deque[tuple[str, Row]] = deque(maxlen=MOST_PENDING)

    @property
    def ticks(self) -> int:
        """Return for how many slots it has watched without a gap."""
        return self._ticks

    def tick(self, slot: int, covered_ms: int, counts: Mapping[Place, Counts], gauges: Mapping[str, Gauges]) -> None:
        """Make the rows of a slot.

        Args:
            counts: what was counted in it.
            gauges: of the models for which this front end writes them.
        """
        of_model: dict[str, dict[str, Counts]] = {}
        for (model, lane), one in counts.items():
            of_model.setdefault(model, {})[lane] = one
        for model in of_model.keys() | gauges.keys():
            news = gauges.get(model)
            if news is not None and news == self._gauges.get(model):
                news = None
            if model not in of_model and news is None:
                continue
            idle = self._ticks - self._written.get(model, 0)
            row = Row(slot, slot, self._who, covered_ms, min(idle, DAY_SLOTS), lane_rows(of_model.get(model, {})), news)
            self.pending.append((model, row))
            self._written[model] = self._ticks + 1
            if news is not None:
                self._gauges[model] = news
        self._gauges = {model: one for model, one in self._gauges.items() if model in gauges}
        self._ticks += 1

    def lost_sight(self) -> None:
        """Redis was away, or its clock was set: what the lanes have done meanwhile is not known."""
        self._ticks = 0
        self._written.clear()
        self._gauges.clear()


class Cap:
    """How many entries the ring of a model may have.

    Args:
        limit_bytes: what it may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._mean_bytes = limit_bytes, 100.0

    def entries(self, row_bytes: int) -> int:
        """Take in the size of one more row, and return how many entries may be there."""
        self._mean_bytes += 0.02 * (row_bytes - self._mean_bytes)
        return max(FEWEST_ENTRIES, int(self._limit_bytes / (self._mean_bytes + ENTRY_BYTES)))

"""Rows of several front ends, put together by the ten seconds that they are about. Pure.

Rows come in the order in which they were written. Where Redis's clock was set back, what had been written for the time
after that is dropped: it will be written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from producer_api.console.feed.counts import Counts, added

from .rows import DAY_SLOTS, STEP_MS, Gauges, Row

SET_BACK_SLOTS: Final = 2
"""Rows of several front ends cross by less."""

NOISE: Final = 0.1
"""Front ends and the lanes are not counted at the same moment: a smaller share of requests is nobody else's."""


class Share(Struct):
    """What one front end has counted in a slot."""

    covered_ms: int = 0
    lanes: dict[str, Counts] = field(default_factory=dict)


class Slot(Struct):
    """Ten seconds.

    Attributes:
        shares: by front end.
        gauges: as the last one that held the lease says.
        done: requests of each lane that have ended in it, whoever sent them.
    """

    shares: dict[str, Share] = field(default_factory=dict)
    gauges: Gauges | None = None
    done: dict[str, int] = field(default_factory=dict)

    def counts(self, lane: str) -> Iterator[Counts]:
        """Return what became of the requests of a lane, or of all with an empty name, by front end and lane."""
        for share in self.shares.values():
            for name, one in share.lanes.items():
                if not lane or name == lane:
                    yield one

    def rates(self, lane: str) -> tuple[float, float]:
        """Return how many requests ended per second, and how many of these as errors."""
        ended = errors = 0.0
        for share in self.shares.values():
            for name, one in share.lanes.items():
                if not lane or name == lane:
                    ended += 1000 * one.ended / share.covered_ms
                    errors += 1000 * one.errors / share.covered_ms
        return ended + sum(self.others(name) for name in self.done if not lane or name == lane), errors

    def others(self, lane: str) -> float:
        """Return how many requests of a lane ended per second that no front end has waited for: direct producers'."""
        done = self.done.get(lane, 0)
        known = [one for share in self.shares.values() if (one := share.lanes.get(lane)) is not None] if done else ()
        rest = done - max(sum(one.ok for one in known), sum(one.replies for one in known))
        return 1000 * rest / STEP_MS if rest > NOISE * done else 0.0


class Merged:
    """Takes rows and keeps the slots.

    Args:
        first: slots before are not kept.
        last: the latest one that can have been written.

    Attributes:
        slots: those of which something was written.
        held: the gauges that were in force before the first slot.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self.slots: dict[int, Slot] = {}
        self.held: Gauges | None = None
        self._idle: dict[int, int] = {}
        self._watched: set[int] | None = None
        self._now = 0
        self._done: tuple[int, Gauges] | None = None

    def take(self, rows: Iterable[Row]) -> None:
        """Take some more rows, in the order in which they were written."""
        for row in rows:
            if row.now < self._now - SET_BACK_SLOTS:
                self._forget_from(row.slot)
            self._now = row.now
            if self._first <= row.slot <= self._last:
                self._put(row)
            if row.gauges is not None:
                self._take_gauges(row, row.gauges)

    def _forget_from(self, first: int) -> None:
        """The clock was set back: what was written for the time from here on was about another one."""
        self.slots = {number: slot for number, slot in self.slots.items() if number < first}
        cut = [start for slot, start in self._idle.items() if slot >= first]
        if cut:
            self._idle = {slot: start for slot, start in self._idle.items() if slot < first}
            self._was_idle(first - 1, min(cut))

    def _put(self, row: Row) -> None:
        slot = self.slots.setdefault(row.slot, Slot())
        share = slot.shares.setdefault(row.who, Share())
        share.covered_ms += row.covered_ms
        for lane, one in row.lanes.items():
            before, counts = share.lanes.get(lane), one.counts()
            share.lanes[lane] = counts if before is None else added([before, counts])
        self._was_idle(row.slot, row.slot - min(row.watched, DAY_SLOTS))

    def _was_idle(self, slot: int, start: int) -> None:
        """Note that somebody watched from ``start`` to ``slot``."""
        if self._first <= slot:
            self._idle[slot] = max(self._first, min(start, self._idle.get(slot, start)))
            self._watched = None

    def _all_watched(self) -> set[int]:
        """Return the slots in which somebody watched: each once, however many rows say so."""
        found: set[int] = set()
        upto = self._first
        for slot, start in sorted(self._idle.items(), key=lambda one: one[1]):
            found.update(range(max(start, upto), slot + 1))
            upto = max(upto, slot + 1)
        return found

    def _take_gauges(self, row: Row, gauges: Gauges) -> None:
        """Note them, and what has ended since those before; after a gap nobody knows when that was."""
        before, self._done = self._done, (row.slot, gauges)
        slot = self.slots.get(row.slot)
        if slot is None:
            self.held = gauges if row.slot < self._first else self.held
            return
        slot.gauges = gauges
        if before is None or not 0 <= row.slot - before[0] <= row.watched + 1:
            return
        for lane, one in gauges.lanes.items():
            old = before[1].lanes.get(lane)
            if one.done is not None and old is not None and old.done is not None and one.done >= old.done:
                slot.done[lane] = slot.done.get(lane, 0) + one.done - old.done

    def is_known(self, number: int, watching_since: int) -> bool:
        """Say whether anybody watched in a slot; one of which nothing was written had no traffic then.

        Args:
            watching_since: from this slot on the one who asks has watched.
        """
        if self._watched is None:
            self._watched = self._all_watched()
        return number in self.slots or number in self._watched or watching_since <= number <= self._last

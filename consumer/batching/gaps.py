"""What runs next where some lanes are of kind ``batch``: these get what the others leave. Pure; times in seconds.

A batch of ordinary requests that is due goes first, and takes along what costs it next to nothing. While none is due,
a batch of ``batch`` lanes runs, just large enough to get nearly as much done as the largest would: an ordinary request
that comes meanwhile waits for the rest of it, and for no second one. A request of a ``batch`` lane that may wait no
longer takes turns with the others: at most one batch of ``batch`` lanes runs between two of theirs, and what runs
out of its turn takes a fifth of the time at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from .backlog import Backlog, Postponable
from .batcher import Batch, Batcher, CloseReason
from .cost import BatchCost
from .load import Budget

ENOUGH = 0.95
"""Share of the best throughput that a batch of ``batch`` lanes is to reach. With 1.0 an ordinary request would wait
longer for the last few percent: on a network that takes 5 ms a row and 2 ms a batch, 160 ms instead of 40 ms."""

UNNOTICED_S = 0.002
"""A batch that runs no longer is not worth being made smaller: taking, answering and committing it takes as long."""

CHEAP = 0.5
"""A batch of ordinary requests is filled up to the size of one of ``batch`` lanes where a row costs less, taken along,
than this share of what it costs there. On a network that takes 8 ms a batch and 0.1 ms a row ordinary requests then
wait a sixth longer, and what would run half empty does the bulk work, too. On one that takes 5 ms a row they would wait
longer for nothing: there only rows come along that the batch would compute anyway, for padding."""

LEAST_RUN_S = 0.002
"""A batch that runs shorter takes nothing along: the answers of what it takes cost more than its run."""

TURN_SHARE = 0.2
"""Of the device, what urgent requests get at least while ordinary ones are due all the time; gaps bring the rest. At
half of capacity the p99 of ordinary ones then grows by one batch. With batches in turns, a half, it grew by three: each
of theirs came behind one, and held what had come meanwhile (``test_invariants.py``)."""

NEAR_S = 0.5
NEAR_BATCHES = 4.0
"""A request is urgent by itself when its deadline is nearer than both together: so many seconds and full batches."""

T = TypeVar("T", bound=Postponable)


class Gaps(Generic[T]):
    """Chooses between ordinary requests and those of ``batch`` lanes.

    Args:
        now: ordinary requests, under the policy of the consumer.
        later: those of ``batch`` lanes.
        cost: what batches cost, kept up to date by the executor.
        computed: how many rows a batch of so many computes; more where batches are padded to certain sizes.
    """

    def __init__(
        self, now: Batcher[T], later: Backlog[T], cost: BatchCost, computed: Callable[[int], int] = lambda rows: rows
    ) -> None:
        self._now, self._later, self._cost, self._computed = now, later, cost, computed
        self._has_taken_turn, self._turn_from_s = False, 0.0

    def take_due(self, now_s: float) -> Batch[T] | None:
        """Take the next batch if there is one to run at ``now_s``. The device is free."""
        until_s = self._near_s(now_s)
        is_urgent = self._later.has_urgent(until_s)
        if is_urgent and not self._has_taken_turn and now_s >= self._turn_from_s:
            self._now.freed(now_s)
            return self._take_later(now_s, until_s, CloseReason.URGENT)
        batch = self.take_ordinary(now_s)
        if batch is not None or not self._later.rows:
            return batch
        if is_urgent:
            return self._take_later(now_s, until_s, CloseReason.URGENT)
        due_s = self._now.due_s(now_s)  # of some that wait for company; it is not disturbed
        return self._take_later(now_s, until_s, CloseReason.GAP, due_s)

    def take_ordinary(self, now_s: float) -> Batch[T] | None:
        """Take the next batch of ordinary requests if one is due, with what it takes along."""
        batch = self._now.take_due(now_s)
        if batch is None:
            return None
        self._has_taken_turn = False
        return self._topped_up(batch, now_s) if batch.items and self._later.rows else batch

    def gives_way(self, now_s: float) -> bool:
        """Say whether ordinary requests go first now, since the last batch was one of ``batch`` lanes."""
        due_s = self._now.due_s(now_s)
        return self._has_taken_turn and due_s is not None and due_s <= now_s

    def took_turn(self) -> None:
        """Note that something of ``batch`` lanes runs that was not taken here."""
        self._has_taken_turn = True

    def _take_later(
        self, now_s: float, until_s: float, reason: CloseReason, due_s: float | None = None
    ) -> Batch[T] | None:
        share = self._share()
        most_units = max(1, math.ceil(share * self._later.full_units))
        if due_s is not None:
            share = self._fitting(share, due_s - now_s, min(most_units, self._later.next_load(until_s).units))
            if share <= 0.0:
                return None
        cut = self._later.take(self._part(share), now_s, until_s)
        if cut.items:
            self._has_taken_turn = True
            self._turn_from_s = now_s + self._cost.run_s(sum(item.load.units for item in cut.items)) / TURN_SHARE
        return Batch(cut.items, cut.expired, reason, most_units)

    def _share(self) -> float:
        """Return how much of a full batch gets nearly as much done in its time, or runs too short to matter.

        It is the full batch where that takes hardly longer.

        A share s of n units takes a n s + b; with the full batch's throughput that is n / (a n + b), solved for s.
        """
        fixed_s, full_s = self._cost.fixed_s, self._cost.per_unit_s * self._later.full_units
        if full_s <= 0.0:
            return 1.0
        enough = ENOUGH * fixed_s / ((1.0 - ENOUGH) * full_s + fixed_s)
        share = min(1.0, max(enough, (UNNOTICED_S - fixed_s) / full_s))
        return 1.0 if ENOUGH * (fixed_s + full_s) <= fixed_s + share * full_s else share

    def _fitting(self, share: float, left_s: float, least_units: int) -> float:
        """Return how much of a full batch is over within ``left_s``, ``share`` at most; 0 for not even the first."""
        if self._cost.run_s(least_units) > left_s:
            return 0.0
        full_s = self._cost.per_unit_s * self._later.full_units
        if full_s <= 0.0:
            return share
        rows = math.floor(self._later.budget.most_rows * (left_s - self._cost.fixed_s) / full_s)
        return max(1e-9, min(share, rows / self._later.budget.most_rows))

    def _part(self, share: float) -> Budget:
        """Return the budget of a share, up to the size to which it would be padded."""
        whole = self._later.budget
        part = whole.part(share)
        padded = self._computed(part.most_rows)
        return part if padded <= part.most_rows else whole.part(min(1.0, padded / whole.most_rows))

    def _topped_up(self, batch: Batch[T], now_s: float) -> Batch[T]:
        rows = units = longest = 0
        for item in batch.items:
            rows, units, longest = rows + item.load.rows, units + item.load.units, max(longest, item.load.longest)
        if self._cost.run_s(units) < LEAST_RUN_S:
            return batch
        free_rows = self._computed(rows) - rows
        until_s = self._near_s(now_s)
        spare_units = self._spare_units(units)
        beside = self._later.take_beside(rows, units, longest, free_rows, spare_units, now_s, until_s)
        if not beside:
            return batch
        return Batch([*batch.items, *beside], batch.expired, batch.reason, topped_up=len(beside))

    def _spare_units(self, units: int) -> float:
        """Return how many units a batch of ``units`` may take along besides those that cost nothing."""
        own_units = self._share() * self._later.full_units
        is_cheap = self._cost.per_unit_s * own_units <= CHEAP * self._cost.run_s(own_units)
        return own_units - units if is_cheap else 0.0

    def _near_s(self, now_s: float) -> float:
        """Return until when a deadline is near."""
        return now_s + NEAR_S + NEAR_BATCHES * self._cost.run_s(self._later.full_units)

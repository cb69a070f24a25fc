"""Dynamic batching as a value: no threads, no clock, no I/O. Time comes in as an argument, in seconds.

A batch closes when its budget is used up, or ``window_s`` after its first item arrived, whichever comes first. The
window opens at the first item, so no item waits longer while the device is idle; while the device is busy the executor
asks for no batch, so it grows. That is the policy ``window``. Under ``adaptive`` an idle device waits only while
waiting pays (`adaptive.py`), which is mostly not at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from .adaptive import Adaptive
from .by_arrival import cut_by_arrival
from .by_length import cut_by_length
from .cost import BatchCost
from .load import Batchable, Budget

T = TypeVar("T", bound=Batchable)

_NEVER = float("inf")


class CloseReason(StrEnum):
    """Why a batch closed.

    Attributes:
        FULL: it holds as much as it may.
        IDLE: the device was free and waiting for company did not pay; policy ``adaptive`` only.
        WINDOW: it had waited for company as long as it may; under ``adaptive``, as long as that paid.
        DEADLINE: a longer wait would have cost one of its items the deadline.
        DRAIN: the consumer is stopping.
        ISOLATED: one entry taken over from another consumer, which runs alone; metrics call it ``lone``.
        GAP: the device was free and nothing interactive was ready; of lanes of kind ``batch`` (`gaps.py`).
        URGENT: as ``GAP``, but with a request that may wait no longer, so it took its turn.
    """

    FULL = "full"
    IDLE = "idle"
    WINDOW = "window"
    DEADLINE = "deadline"
    DRAIN = "drain"
    ISOLATED = "lone"
    GAP = "gap"
    URGENT = "urgent"


@dataclass(slots=True)
class Batch(Generic[T]):
    """Items to run together, the items found dead on the way, and why the batch closed. ``items`` may be empty.

    Attributes:
        most_units: of a batch of ``batch`` lanes: an item with more runs in parts of so many; 0 for any other batch.
        topped_up: how many items at the end are of ``batch`` lanes, in a batch of others.
    """

    items: Sequence[T]
    expired: Sequence[T]
    reason: CloseReason
    most_units: int = 0
    topped_up: int = 0


class Batcher(Generic[T]):
    """Collects items in arrival order and hands them out as batches.

    Args:
        budget: how much a batch may hold.
        window_s: longest wait for company, in seconds; 0 takes what is there.
        cost: how long a batch runs; it closes early when a deadline would pass otherwise.
        adaptive: says how long waiting pays, instead of ``window_s``.

    Attributes:
        rows: rows waiting.
        used: how much of the budget everything that waits takes, which may be more than one batch holds.
    """

    def __init__(self, budget: Budget, window_s: float, cost: BatchCost, adaptive: Adaptive | None = None) -> None:
        if not window_s >= 0:
            raise ValueError(f"window_s must be at least 0, not {window_s}")
        self.budget = budget
        self._window_s = window_s
        self._cost = cost
        self._adaptive = adaptive
        self._items: deque[T] = deque()
        self._priority_count = 0
        self._unnoted_rows = 0
        self._running_rows = self._running_units = 0
        self._has_waited = False
        self._draining = False
        self._count_anew()

    def _count_anew(self) -> None:
        self.rows = self._units = self._longest = 0
        self.used = 0.0
        self._first_arrival_s = self._first_deadline_s = _NEVER
        for item in self._items:
            self._count(item)

    def waiting(self) -> Sequence[T]:
        """Return what waits, in the order in which it is handed out."""
        return list(self._items)

    def waits(self) -> bool:
        """Say whether an idle device may be kept waiting for company, as things are."""
        return self._window_s > 0.0 if self._adaptive is None else self._adaptive.waits()

    def add(self, item: T, *, priority: bool = False) -> None:
        """Append an item, or put it ahead of all but those that were put ahead before."""
        if priority:
            self._items.insert(self._priority_count, item)
            self._priority_count += 1
        else:
            self._items.append(item)
        self._unnoted_rows += item.load.rows
        self._count(item)

    def _count(self, item: T) -> None:
        rows, units, longest = item.load
        self.rows += rows
        self._units += units
        if longest > self._longest:
            self._longest = longest
        self.used = self.budget.used(self.rows, self._units, self._longest)
        # Decoding may finish out of order, so the first in the queue need not be the first that arrived.
        if item.arrived_s < self._first_arrival_s:
            self._first_arrival_s = item.arrived_s
        if item.deadline_s < self._first_deadline_s:
            self._first_deadline_s = item.deadline_s

    def ready(self, now_s: float) -> None:
        """Note that what was added since the last call became ready now."""
        if self._adaptive is not None and self._unnoted_rows:
            self._adaptive.arrived(self._unnoted_rows, self.rows, now_s)
        self._unnoted_rows = 0

    def drain(self) -> None:
        """From now on hand out everything at once: nothing more is coming."""
        self._draining = True

    def _closing(self, now_s: float) -> tuple[float, CloseReason] | None:
        if not self._items:
            return None
        if self._draining:
            return -_NEVER, CloseReason.DRAIN
        if self.used >= self.budget.most:
            return -_NEVER, CloseReason.FULL
        latest_start_s = self._first_deadline_s - self._cost.run_s(self._units)
        if self._adaptive is None:
            until_s = self._first_arrival_s + self._window_s
        else:
            until_s = self._adaptive.until_s(self.rows, self._units, now_s)
            if until_s <= now_s and not self._has_waited:
                return -_NEVER, CloseReason.IDLE
        if latest_start_s < until_s:
            return latest_start_s, CloseReason.DEADLINE
        return until_s, CloseReason.WINDOW

    def due_s(self, now_s: float) -> float | None:
        """When the next batch closes, as seen now: minus infinity for at once, None while nothing waits."""
        closing = self._closing(now_s)
        return None if closing is None else closing[0]

    def freed(self, now_s: float) -> None:
        """Note that the last batch has ended, if that is news."""
        if self._adaptive is not None:
            self.ready(now_s)
            if self._running_rows:
                self._adaptive.ended(self._running_rows, self._running_units, now_s)
                self._running_rows = 0

    def take_due(self, now_s: float) -> Batch[T] | None:
        """Take the next batch if it is due at ``now_s``, leaving out what has expired.

        The caller is free, so the last batch has ended.
        """
        if self._adaptive is not None:
            self.freed(now_s)
        closing = self._closing(now_s)
        if closing is None or closing[0] > now_s:
            self._has_waited = closing is not None
            return None
        self._has_waited = False
        items, expired = self._take(now_s)
        if self._adaptive is not None and items:
            self._adaptive.begun()
        return Batch(items, expired, closing[1])

    def _take(self, now_s: float) -> tuple[Sequence[T], Sequence[T]]:
        """Take what one batch holds; returns that, and what has expired on the way."""
        budget = self.budget
        if budget.by_length:
            cut = cut_by_length(self._items, self._priority_count, budget, now_s)
            self._items = deque(cut.left)
        else:
            cut = cut_by_arrival(self._items, self._priority_count, budget, self.used <= budget.most, now_s)
        self._priority_count, self._running_rows, self._running_units = cut.priority_count, cut.rows, cut.units
        self._count_anew()
        return cut.items, cut.expired

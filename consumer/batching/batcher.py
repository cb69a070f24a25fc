"""Dynamic batching as a value: no threads, no clock, no I/O. Time comes in as an argument, in seconds.

A batch closes when it has ``max_rows`` rows, or ``window_s`` after its first item arrived, whichever comes first. The
window opens at the first item, so nobody waits longer than it while the device is idle; while the device is busy nobody
asks for a batch, so it grows. That is the policy ``window``. Under ``adaptive`` an idle device waits only while waiting
pays (`adaptive.py`), which is mostly not at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from .adaptive import Adaptive
from .cost import BatchCost


class Batchable(Protocol):
    """What the batcher looks at in an item."""

    @property
    def row_count(self) -> int:
        """Rows the item adds to a batch; at least 1."""

    @property
    def arrived_s(self) -> float:
        """When the item reached this consumer."""

    @property
    def deadline_s(self) -> float:
        """After this time no inference may start for it."""


T = TypeVar("T", bound=Batchable)


_NEVER = float("inf")


class CloseReason(StrEnum):
    """Why a batch closed.

    Attributes:
        FULL: it holds as many rows as it may.
        IDLE: the device was free and waiting for company did not pay; policy ``adaptive`` only.
        WINDOW: it had waited for company as long as it may; under ``adaptive``, as long as that paid.
        DEADLINE: a longer wait would have cost one of its items the deadline.
        DRAIN: the consumer is stopping.
        LONE: one entry taken over from another consumer, which runs alone.
    """

    FULL = "full"
    IDLE = "idle"
    WINDOW = "window"
    DEADLINE = "deadline"
    DRAIN = "drain"
    LONE = "lone"


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Items to run together, the items found dead on the way, and why the batch closed. ``items`` may be empty."""

    items: Sequence[T]
    expired: Sequence[T]
    reason: CloseReason


class Batcher(Generic[T]):
    """Collects items in arrival order and hands them out as batches.

    Args:
        max_rows: most rows of a batch. An item with more rows rides alone.
        window_s: longest wait for company, in seconds; 0 takes what is there.
        cost: how long a batch runs; it closes early when a deadline would pass otherwise. None: no time at all.
        adaptive: says how long waiting pays, instead of ``window_s``.
    """

    def __init__(
        self, max_rows: int, window_s: float, cost: BatchCost | None = None, adaptive: Adaptive | None = None
    ) -> None:
        if max_rows < 1 or not window_s >= 0:
            raise ValueError(f"max_rows must be at least 1 and window_s at least 0, not {max_rows} and {window_s}")
        self._max_rows = max_rows
        self._window_s = window_s
        self._cost = cost or BatchCost()
        self._adaptive = adaptive
        self._items: deque[T] = deque()
        self._ahead = 0
        self._rows = 0
        self._unnoted_rows = 0
        self._running_rows = 0
        self._has_waited = False
        self._draining = False
        self._first_arrival_s = _NEVER
        self._first_deadline_s = _NEVER

    @property
    def rows(self) -> int:
        """Rows waiting."""
        return self._rows

    @property
    def max_rows(self) -> int:
        """Most rows of a batch."""
        return self._max_rows

    def waiting(self) -> Sequence[T]:
        """Return what waits, in the order in which it is handed out."""
        return list(self._items)

    def waits(self) -> bool:
        """Say whether an idle device may be kept waiting for company, as things are."""
        return self._window_s > 0.0 if self._adaptive is None else self._adaptive.waits()

    def add(self, item: T, *, ahead: bool = False) -> None:
        """Append an item, or put it ahead of all but those that were put ahead before."""
        if ahead:
            self._items.insert(self._ahead, item)
            self._ahead += 1
        else:
            self._items.append(item)
        self._rows += item.row_count
        self._unnoted_rows += item.row_count
        self._note_times(item)

    def ready(self, now_s: float) -> None:
        """Note that what was added since the last call became ready now."""
        if self._adaptive is not None and self._unnoted_rows:
            self._adaptive.arrived(self._unnoted_rows, self._rows, now_s)
        self._unnoted_rows = 0

    def _note_times(self, item: T) -> None:
        # Decoding may finish out of order, so the first in the queue need not be the first that arrived.
        self._first_arrival_s = min(self._first_arrival_s, item.arrived_s)
        self._first_deadline_s = min(self._first_deadline_s, item.deadline_s)

    def drain(self) -> None:
        """From now on hand out everything at once: nothing more is coming."""
        self._draining = True

    def _closing(self, now_s: float) -> tuple[float, CloseReason] | None:
        if not self._items:
            return None
        if self._draining:
            return -_NEVER, CloseReason.DRAIN
        if self._rows >= self._max_rows:
            return -_NEVER, CloseReason.FULL
        latest_start_s = self._first_deadline_s - self._cost.run_s(self._rows)
        if self._adaptive is None:
            until_s = self._first_arrival_s + self._window_s
        else:
            until_s = self._adaptive.until_s(self._rows, now_s)
            if until_s <= now_s and not self._has_waited:
                return -_NEVER, CloseReason.IDLE
        if latest_start_s < until_s:
            return latest_start_s, CloseReason.DEADLINE
        return until_s, CloseReason.WINDOW

    def due_s(self, now_s: float) -> float | None:
        """When the next batch closes, as seen now: minus infinity for at once, None while nothing waits."""
        closing = self._closing(now_s)
        return None if closing is None else closing[0]

    def take_due(self, now_s: float) -> Batch[T] | None:
        """Take the next batch if it is due at ``now_s``, leaving out what has expired.

        Whoever asks is free, so the last batch has ended.
        """
        if self._adaptive is not None:
            self.ready(now_s)
            if self._running_rows:
                self._adaptive.ended(self._running_rows, now_s)
                self._running_rows = 0
        closing = self._closing(now_s)
        if closing is None or closing[0] > now_s:
            self._has_waited = closing is not None
            return None
        items: list[T] = []
        expired: list[T] = []
        rows = 0
        while self._items:
            item = self._items[0]
            if item.deadline_s <= now_s:
                expired.append(item)
            elif items and rows + item.row_count > self._max_rows:
                break
            else:
                items.append(item)
                rows += item.row_count
            self._items.popleft()
            self._rows -= item.row_count
        self._ahead = max(0, self._ahead - len(items) - len(expired))
        self._first_arrival_s = self._first_deadline_s = _NEVER
        for item in self._items:
            self._note_times(item)
        self._has_waited = False
        if self._adaptive is not None and items:
            self._running_rows = rows
            self._adaptive.begun()
        return Batch(items, expired, closing[1])

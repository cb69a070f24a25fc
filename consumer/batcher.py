"""Dynamic batching as a value: no threads, no clock, no I/O. Time comes in as an argument, in seconds.

Policy ``window``: a batch closes when it has ``max_rows`` rows, or ``window_s`` after its first item arrived,
whichever comes first. The window opens at the first item, so nobody waits longer than it while the device is idle;
while the device is busy nobody asks for a batch, so it grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar


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
    """Why a batch closed."""

    FULL = "full"
    WINDOW = "window"
    DEADLINE = "deadline"
    DRAIN = "drain"


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
    """

    def __init__(self, max_rows: int, window_s: float) -> None:
        if max_rows < 1 or window_s < 0:
            raise ValueError(f"max_rows must be at least 1 and window_s at least 0, not {max_rows} and {window_s}")
        self._max_rows = max_rows
        self._window_s = window_s
        self._items: deque[T] = deque()
        self._rows = 0
        self._draining = False
        self._first_arrival_s = _NEVER
        self._first_deadline_s = _NEVER

    @property
    def rows(self) -> int:
        """Rows waiting."""
        return self._rows

    def add(self, item: T) -> None:
        """Append an item."""
        self._items.append(item)
        self._rows += item.row_count
        self._note_times(item)

    def _note_times(self, item: T) -> None:
        # Decoding may finish out of order, so the first in the queue need not be the first that arrived.
        self._first_arrival_s = min(self._first_arrival_s, item.arrived_s)
        self._first_deadline_s = min(self._first_deadline_s, item.deadline_s)

    def drain(self) -> None:
        """From now on hand out everything at once: nothing more is coming."""
        self._draining = True

    def _closing(self, run_estimate_s: float) -> tuple[float, CloseReason] | None:
        if not self._items:
            return None
        if self._draining:
            return -_NEVER, CloseReason.DRAIN
        if self._rows >= self._max_rows:
            return -_NEVER, CloseReason.FULL
        window_end_s = self._first_arrival_s + self._window_s
        latest_start_s = self._first_deadline_s - run_estimate_s
        if latest_start_s < window_end_s:
            return latest_start_s, CloseReason.DEADLINE
        return window_end_s, CloseReason.WINDOW

    def due_s(self, run_estimate_s: float = 0.0) -> float | None:
        """When the next batch closes: minus infinity for at once, None while nothing waits.

        Args:
            run_estimate_s: how long a batch takes; a batch closes early when a deadline would pass otherwise.
        """
        closing = self._closing(run_estimate_s)
        return None if closing is None else closing[0]

    def take_due(self, now_s: float, run_estimate_s: float = 0.0) -> Batch[T] | None:
        """Take the next batch if it is due at ``now_s``, leaving out what has expired."""
        closing = self._closing(run_estimate_s)
        if closing is None or closing[0] > now_s:
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
        self._first_arrival_s = self._first_deadline_s = _NEVER
        for item in self._items:
            self._note_times(item)
        return Batch(items, expired, closing[1])

"""The meeting point of the reading threads and the running thread: a batcher behind a lock."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from consumer.batching.batcher import Batch, Batcher, CloseReason
from consumer.batching.load import ONE
from consumer.queue.interface import Entry
from shared.keys import DEFAULT_LANE

from .items import Item

USUAL_WEIGHT = 0.2
"""Weight of the newest request in the running estimate of how much room one takes."""

SHORTLY_S = 0.02
"""How long new requests may have to wait to be read while one that must run alone is being decoded."""


class Intake:
    """Bounds what this consumer holds, and hands out batches.

    At most one batch waits here (being decoded, or ready) while another runs: whatever is read earlier than that would
    only wait longer, when another consumer might be free for it. Where batches are chosen by length, a few may wait.

    Args:
        batcher: the policy; its budget says how much may wait.
        charge: told what each request costs that its lane was charged for; None where that is not known here.
        measure: told how many tokens each request has; None where they are not counted, or not here.
    """

    def __init__(
        self,
        batcher: Batcher[Item],
        charge: Callable[[Entry, float], None] | None = None,
        measure: Callable[[Entry, float], None] | None = None,
    ) -> None:
        self._batcher, self._charge, self._measure = batcher, charge, measure
        self._decoding = 0
        self._decoding_of: Counter[str] = Counter()
        self._usual = batcher.budget.used(*ONE)
        self._closed = False
        self._apart = 0
        self._isolated: Item | None = None
        self._isolated_is_decoded = self._isolated_runs = False
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def wait_for_room(self, timeout_s: float) -> int:
        """Wait until something may be read; return how many entries, or 0 when the time is out."""
        with self._room:
            room = self._free()
            if room <= 0:
                self._room.wait(timeout_s)
                room = self._free()
            # How much room an entry takes is known once it is here; until then it is taken to be as usual.
            return max(1, round(room / self._usual)) if room > 0 else 0

    def _free(self) -> float:
        """Return how much of a batch is free; in the measure of the budget, as all that follows from it."""
        return self._batcher.budget.room - self._decoding * self._usual - self._batcher.used

    def _take(self, item: Item) -> None:
        before = self._batcher.used
        self._batcher.add(item, priority=item.has_priority)
        self._usual += USUAL_WEIGHT * (self._batcher.used - before - self._usual)
        if item.entry.charged and self._charge is not None:
            self._charge(item.entry, item.load.units)
        if self._measure is not None:
            self._measure(item.entry, item.load.units)

    def room_changed(self) -> None:
        """Look again whether something may be read: the budget has changed."""
        with self._room:
            self._room.notify()

    def is_empty(self) -> bool:
        """Say whether nothing waits here, neither ready nor being decoded."""
        is_alone = self._isolated is not None or self._isolated_is_decoded
        return self._decoding == 0 and self._apart == 0 and self._batcher.rows == 0 and not is_alone

    def waits(self) -> bool:
        """Say whether a batch may wait for more rows although the device is idle."""
        return self._batcher.waits()

    @property
    def most(self) -> float:
        """What a batch may hold, in the measure of the budget."""
        return self._batcher.budget.most

    def lanes(self) -> dict[str, float]:
        """Return how much each lane has here, in the same measure."""
        with self._changed:
            held = {lane: count * self._usual for lane, count in self._decoding_of.items() if count}
            for item in self._batcher.waiting():
                lane = item.entry.lane
                held[lane] = held.get(lane, 0.0) + self._batcher.budget.used(*item.load)
            return held

    def begin_decoding(self, count: int, lane: str = DEFAULT_LANE) -> None:
        """Reserve room for requests whose rows are still being made."""
        with self._changed:
            self._decoding += count
            self._decoding_of[lane] += count

    def end_decoding(self, item: Item | None, lane: str = DEFAULT_LANE) -> None:
        """Turn one reservation into an item, or give it up."""
        with self._changed:
            self._decoding -= 1
            self._decoding_of[lane] -= 1
            if item is not None:
                self._take(item)
                self._batcher.ready(time.monotonic())
            self._changed.notify()
            self._room.notify()

    def set_apart(self, lane: str = DEFAULT_LANE) -> None:
        """Give up the room reserved for a request: its rows take long to make, and others need not wait for them."""
        with self._changed:
            self._decoding -= 1
            self._decoding_of[lane] -= 1
            self._apart += 1
            self._room.notify()

    def end_apart(self, item: Item | None) -> None:
        """Add a request that was set apart, or give it up."""
        with self._changed:
            self._apart -= 1
        if item is not None:
            self.add([item])

    def add(self, items: Sequence[Item]) -> None:
        """Add requests that are ready to run."""
        with self._changed:
            for item in items:
                self._take(item)
            self._batcher.ready(time.monotonic())
            self._changed.notify()

    def has_isolated(self) -> bool:
        """Say whether an item that must run alone waits here, is being decoded, or runs.

        None is begun before the last one has ended: else one that ends its process would count against the next, too.
        """
        return self._isolated is not None or self._isolated_is_decoded or self._isolated_runs

    def wait_for_isolated(self, timeout_s: float) -> None:
        """Wait until the item that must run alone has ended; only shortly while it is being decoded."""
        with self._room:
            timeout_s = min(timeout_s, SHORTLY_S) if self._isolated_is_decoded else timeout_s
            self._room.wait_for(lambda: not self.has_isolated(), timeout_s)

    def begin_decoding_isolated(self) -> None:
        """Note that the rows of the one item that must run alone are being made."""
        with self._changed:
            self._isolated_is_decoded = True

    def add_isolated(self, item: Item | None) -> None:
        """Add the one item that must run alone, which is handed out next; or give it up."""
        with self._changed:
            self._isolated, self._isolated_is_decoded = item, False
            self._changed.notify()
            self._room.notify()

    def end_isolated(self) -> None:
        """Note that the item that ran alone has ended, or is not run."""
        with self._changed:
            self._isolated_runs = False
            self._room.notify()

    def close(self) -> None:
        """Nothing more comes: hand out what is here at once, then report the end."""
        with self._changed:
            self._closed = True
            self._batcher.drain()
            self._changed.notify_all()

    def is_over(self) -> bool:
        """Say whether the intake is closed and everything has been handed out."""
        return self._closed and self.is_empty()

    def next_batch(self, timeout_s: float | None = None) -> Batch[Item] | None:
        """Wait for the next batch; None once the intake is closed and empty, or when the time is out.

        Args:
            timeout_s: longest wait while nothing is here; None waits until something comes.
        """
        with self._changed:
            while True:
                now_s = time.monotonic()
                if self._isolated is not None:
                    return self._take_isolated(self._isolated, now_s)
                batch = self._batcher.take_due(now_s)
                if batch is not None:
                    self._room.notify()
                    return batch
                if self._closed and self._decoding == 0 and self._apart == 0 and not self._isolated_is_decoded:
                    return None
                due_s = self._batcher.due_s(now_s)
                if due_s is not None:
                    self._changed.wait(max(0.0, due_s - now_s))
                elif timeout_s == 0 or not self._changed.wait(timeout_s):
                    return None

    def _take_isolated(self, item: Item, now_s: float) -> Batch[Item]:
        self._isolated, self._isolated_runs = None, True
        if item.deadline_s <= now_s:
            return Batch([], [item], CloseReason.ISOLATED)
        return Batch([item], [], CloseReason.ISOLATED)

"""The meeting point of the reading threads and the running thread: a batcher behind a lock."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from consumer.batching.batcher import Batch, Batcher, CloseReason
from consumer.batching.load import ONE, Budget
from consumer.queue.interface import Entry
from shared.keys import DEFAULT_LANE

from .items import Item

USUAL_WEIGHT = 0.2
"""Weight of the newest request in the running estimate of how much room one takes."""

SHORTLY_S = 0.02
"""How long new requests may have to wait to be read while one that must run alone is being decoded."""

FILLING_S = 2.0
"""So long after the last request of a ``batch`` lane more are expected."""

Told = Callable[[Entry, float], None]


class Holding(Protocol):
    """Requests that are ready to run: :class:`Batcher`, or :class:`consumer.batching.backlog.Backlog`."""

    budget: Budget

    @property
    def rows(self) -> int:
        """How many rows wait."""

    @property
    def used(self) -> float:
        """How much of the budget they take."""

    def add(self, item: Item, *, priority: bool = False) -> None:
        """Add an item."""

    def ready(self, now_s: float) -> None:
        """Note that what was added is ready."""

    def waiting(self) -> Sequence[Item]:
        """Return what waits."""


class Chooser(Protocol):
    """Says what runs next where there are ``batch`` lanes: :class:`consumer.batching.gaps.Gaps`, for one."""

    def take_due(self, now_s: float) -> Batch[Item] | None:
        """Take the next batch if there is one to run now."""

    def take_ordinary(self, now_s: float) -> Batch[Item] | None:
        """Take the next batch of ordinary requests if one is due."""

    def gives_way(self, now_s: float) -> bool:
        """Say whether ordinary requests go first now."""

    def took_turn(self) -> None:
        """Note that something of ``batch`` lanes runs that was not taken here."""


class Room:
    """Bounds what waits here of some lanes, ready or being decoded. Any thread may call it.

    Args:
        holding: what is ready; its budget says how much may wait.
        charge: told what each request costs that its lane was charged for; None where that is not known here.
        measure: told how many tokens each request has; None where they are not counted, or not here.
        lock: guards all of this.
        changed: of the same lock; notified when there may be something to run.
    """

    def __init__(
        self,
        holding: Holding,
        charge: Told | None,
        measure: Told | None,
        lock: threading.Lock,
        changed: threading.Condition,
    ) -> None:
        self._holding, self._charge, self._measure = holding, charge, measure
        self._decoding = self._apart = 0
        self._decoding_of: Counter[str] = Counter()
        self._usual = holding.budget.used(*ONE)
        self._changed = changed
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
        return self._holding.budget.room - self._decoding * self._usual - self._holding.used

    def _take(self, item: Item) -> None:
        before = self._holding.used
        self._holding.add(item, priority=item.has_priority)
        self._usual += USUAL_WEIGHT * (self._holding.used - before - self._usual)
        if item.entry.charged and self._charge is not None:
            self._charge(item.entry, item.load.units)
        if self._measure is not None:
            self._measure(item.entry, item.load.units)

    def room_changed(self) -> None:
        """Look again whether something may be read: the budget has changed."""
        with self._room:
            self._room.notify()

    @property
    def most(self) -> float:
        """What a batch may hold, in the measure of the budget."""
        return self._holding.budget.most

    def lanes(self) -> dict[str, float]:
        """Return how much each lane has here, in the same measure."""
        with self._changed:
            held = {lane: count * self._usual for lane, count in self._decoding_of.items() if count}
            for item in self._holding.waiting():
                lane = item.entry.lane
                held[lane] = held.get(lane, 0.0) + self._holding.budget.used(*item.load)
            return held

    @property
    def decoding(self) -> int:
        """How many are being decoded, others than those set apart."""
        return self._decoding

    def holds_nothing(self) -> bool:
        """Say whether nothing waits here, neither ready nor being decoded."""
        return self._decoding == 0 and self._apart == 0 and self._holding.rows == 0

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
                self._holding.ready(time.monotonic())
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
            self._holding.ready(time.monotonic())
            self._changed.notify()


class Intake(Room):
    """Bounds what this consumer holds, and hands out batches.

    At most one batch waits here (being decoded, or ready) while another runs: whatever is read earlier than that would
    only wait longer, when another consumer might be free for it. Where batches are chosen by length, a few may wait.

    What is of ``batch`` lanes waits in a room of its own, for as much; see :meth:`share`.

    Args:
        batcher: the policy; its budget says how much may wait.
        charge, measure: see :class:`Room`.

    Attributes:
        later: room of what is of ``batch`` lanes; None until there are some.
        taking_over: held by the fetcher that takes an entry over, since only one at a time may run alone.
    """

    def __init__(self, batcher: Batcher[Item], charge: Told | None = None, measure: Told | None = None) -> None:
        self._lock = threading.Lock()
        super().__init__(batcher, charge, measure, self._lock, threading.Condition(self._lock))
        self._batcher = batcher
        self._closed = False
        self._isolated: Item | None = None
        self._isolated_is_decoded = self._isolated_runs = False
        self._alone = threading.Condition(self._lock)
        self._chooser: Chooser | None = None
        self.later: Room | None = None
        self.taking_over = threading.Lock()
        self._later_until_s = float("-inf")

    def make_later(self, holding: Holding, charge: Told | None = None, measure: Told | None = None) -> Room:
        """Return room for what is of ``batch`` lanes."""
        return Room(holding, charge, measure, self._lock, self._changed)

    def share(self, chooser: Chooser, later: Room) -> None:
        """From now on ``chooser`` says what runs next: requests of ``batch`` lanes come into ``later``."""
        with self._changed:
            self._chooser, self.later = chooser, later

    def room_of(self, item: Item) -> Room:
        """Return where an item waits."""
        return self.later if item.is_later and self.later is not None else self

    def expect_later(self) -> None:
        """Note that requests of ``batch`` lanes have just been read; there may be more."""
        self._later_until_s = time.monotonic() + FILLING_S

    def expects_later(self) -> bool:
        """Say whether there are requests of ``batch`` lanes here, or there have just been some."""
        later = self.later
        return later is not None and (time.monotonic() < self._later_until_s or not later.holds_nothing())

    def is_empty(self) -> bool:
        """Say whether nothing waits here, neither ready nor being decoded."""
        is_alone = self._isolated is not None or self._isolated_is_decoded
        is_empty = self._decoding == 0 and self._apart == 0 and self._batcher.rows == 0 and not is_alone
        return is_empty and (self.later is None or self.later.holds_nothing())

    def waits(self) -> bool:
        """Say whether a batch may wait for more rows although the device is idle."""
        return self._batcher.waits()

    def has_isolated(self) -> bool:
        """Say whether an item that must run alone waits here, is being decoded, or runs.

        None is begun before the last one has ended: else one that ends its process would count against the next, too.
        """
        return self._isolated is not None or self._isolated_is_decoded or self._isolated_runs

    def wait_for_isolated(self, timeout_s: float) -> None:
        """Wait until the item that must run alone has ended; only shortly while it is being decoded."""
        with self._alone:
            timeout_s = min(timeout_s, SHORTLY_S) if self._isolated_is_decoded else timeout_s
            self._alone.wait_for(lambda: not self.has_isolated(), timeout_s)

    def begin_decoding_isolated(self) -> None:
        """Note that the rows of the one item that must run alone are being made."""
        with self._changed:
            self._isolated_is_decoded = True

    def add_isolated(self, item: Item | None) -> None:
        """Add the one item that must run alone, which is handed out next; or give it up."""
        with self._changed:
            self._isolated, self._isolated_is_decoded = item, False
            self._changed.notify()
            self._notify_room()
            self._alone.notify_all()

    def end_isolated(self) -> None:
        """Note that the item that ran alone has ended, or is not run."""
        with self._changed:
            self._isolated_runs = False
            self._notify_room()
            self._alone.notify_all()

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
                chooser = self._chooser
                if self._isolated is not None and not self._gives_way(self._isolated, now_s):
                    return self._take_isolated(self._isolated, now_s)
                batch = self._batcher.take_due(now_s) if chooser is None else chooser.take_due(now_s)
                if batch is not None:
                    self._notify_room()
                    return batch
                if self._closed and not self._has_more():
                    return None
                due_s = self._batcher.due_s(now_s)
                if due_s is not None:
                    self._changed.wait(max(0.0, due_s - now_s))
                elif timeout_s == 0 or not self._changed.wait(timeout_s):
                    return None

    def next_ordinary(self) -> Batch[Item] | None:
        """Return the next batch of ordinary requests if one is due, between two parts of a large request."""
        with self._changed:
            batch = None if self._chooser is None else self._chooser.take_ordinary(time.monotonic())
            if batch is not None:
                self._notify_room()
            return batch

    def _notify_room(self) -> None:
        self._room.notify()
        if self.later is not None:
            self.later._room.notify()

    def _has_more(self) -> bool:
        """Say whether something is still being decoded."""
        later = self.later
        is_decoding = self._decoding or self._apart or self._isolated_is_decoded
        return bool(is_decoding or (later is not None and (later._decoding or later._apart)))

    def _gives_way(self, isolated: Item, now_s: float) -> bool:
        """Say whether ordinary requests go first: one of a ``batch`` lane takes turns with them."""
        return isolated.is_later and self._chooser is not None and self._chooser.gives_way(now_s)

    def _take_isolated(self, item: Item, now_s: float) -> Batch[Item]:
        self._isolated, self._isolated_runs = None, True
        if item.is_later and self._chooser is not None:
            self._chooser.took_turn()
        if item.deadline_s <= now_s:
            return Batch([], [item], CloseReason.ISOLATED)
        return Batch([item], [], CloseReason.ISOLATED)

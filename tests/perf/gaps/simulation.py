"""Consumers with a ``batch`` lane on a virtual clock: the real batcher, backlog and cost model, simulated devices.

Used by the tests of `consumer/batching/gaps.py` and by ``tests/perf/gaps.py``, which makes the table and the picture of
``docs/now-and-later.md``. Everything is seeded: the same arguments give the same day.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from consumer.batching.backlog import Backlog
from consumer.batching.batcher import Batch, Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.gaps import Gaps
from consumer.batching.load import ONE, Load, RowBudget
from tests.simulation import ADAPTIVE, Device, Policy

REFILL_S = 0.001
"""From a batch of the batch lane being taken until the next one is here: a read, and decoding."""

FOREVER_S = 1e9


@dataclass(slots=True)
class Task:
    """A request; ``arrived_s`` is when the consumer had it ready to run."""

    name: int
    sent_s: float
    deadline_s: float = FOREVER_S
    arrived_s: float = 0.0
    load: Load = ONE
    is_urgent: bool = False
    is_later: bool = False


@dataclass(frozen=True)
class Run:
    """One batch on one device."""

    consumer: int
    begun_s: float
    ended_s: float
    ordinary: tuple[int, ...]
    later: tuple[int, ...]
    reason: CloseReason

    @property
    def is_of_batch_lane(self) -> bool:
        """Say whether it ran for the batch lane alone."""
        return not self.ordinary


@dataclass
class Shift:
    """What happened.

    Attributes:
        ready_s: when a consumer had a request ready to run.
        idle_in_vain: how often a device stayed idle although nothing but requests of the batch lane was there.
    """

    runs: list[Run] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    later_done: dict[int, float] = field(default_factory=dict)
    expired: list[int] = field(default_factory=list)
    ready_s: dict[int, float] = field(default_factory=dict)
    topped_up: int = 0
    idle_in_vain: int = 0
    busy_s: float = 0.0
    ended_s: float = 0.0

    def quantile_s(self, share: float) -> float:
        """Return a quantile of the time of ordinary requests, from being sent to the end of their run."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def busy(self) -> float:
        """Share of the time in which the devices ran."""
        return self.busy_s / self.ended_s

    @property
    def later_per_s(self) -> float:
        """Requests of the batch lane a second."""
        return len(self.later_done) / self.ended_s


class _Consumer:
    def __init__(self, number: int, device: Device, policy: Policy, computed: Callable[[int], int]) -> None:
        self.number = number
        self.cost = BatchCost((rows, device.run_s(rows)) for rows in (1, 2, 4, 8, 16, 32))
        batcher, _ = policy.batcher(device)
        self.now: Batcher[Task] = batcher  # type: ignore[assignment]
        self.now._cost = self.cost
        if self.now._adaptive is not None:
            self.now._adaptive._cost = self.cost
        self.later: Backlog[Task] = Backlog(RowBudget(device.max_rows))
        self.gaps = Gaps(self.now, self.later, self.cost, computed)
        self.is_running = False
        self.timer_s = FOREVER_S
        self.is_refilled_s = 0.0


class Shared:
    """Consumers that share an ordinary lane and a batch lane.

    Args:
        lasts_s: nothing begins after this.
        bulk: what the batch lane holds, in order; each is sent at its ``sent_s``.
    """

    def __init__(
        self,
        device: Device,
        ordinary: Iterable[Task],
        bulk: Iterable[Task],
        *,
        policy: Policy = ADAPTIVE,
        consumers: int = 1,
        lasts_s: float = FOREVER_S,
        seed: int = 1,
        computed: Callable[[int], int] = lambda rows: rows,
        refill_s: float = REFILL_S,
    ) -> None:
        self._device, self._lasts_s, self._refill_s = device, lasts_s, refill_s
        self._rng = random.Random(seed)
        self._computed = computed
        self._consumers = [_Consumer(number, device, policy, computed) for number in range(consumers)]
        self._readers = deque(self._consumers)
        self._ordinary: deque[Task] = deque()
        self._bulk: deque[Task] = deque()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._coming = iter(ordinary), iter(bulk)
        self.shift = Shift()

    def run(self) -> Shift:
        """Live through it."""
        for coming, lane in zip(self._coming, (self._ordinary, self._bulk), strict=True):
            self._send_next(coming, lane)
        while self._events:
            now_s, _, step = heapq.heappop(self._events)
            step(now_s)
        return self.shift

    def _at(self, time_s: float, step: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), step))

    def _send_next(self, coming: Iterator[Task], lane: deque[Task]) -> None:
        """Send the next one, and all that are sent at the same time, at once."""
        first = next(coming, None)
        if first is None or first.sent_s > self._lasts_s:
            return

        def send(now_s: float) -> None:
            lane.append(first)
            self._read(now_s)
            self._send_next(coming, lane)

        self._at(first.sent_s, send)

    def _read(self, now_s: float) -> None:
        for _ in range(len(self._readers)):
            consumer = self._readers[0]
            self._readers.rotate(-1)
            before = consumer.now.rows
            while self._ordinary and consumer.now.rows < consumer.now.budget.room:
                task = self._ordinary.popleft()
                task.arrived_s = self.shift.ready_s[task.name] = now_s
                consumer.now.add(task)
            if consumer.now.rows > before:
                consumer.now.ready(now_s)
            self._fill(consumer, now_s)
            self._ask(consumer, now_s)

    def _fill(self, consumer: _Consumer, now_s: float) -> None:
        if now_s < consumer.is_refilled_s:
            return
        while self._bulk and consumer.later.rows < consumer.later.budget.room:
            task = self._bulk.popleft()
            task.arrived_s = self.shift.ready_s[task.name] = now_s
            consumer.later.add(task)

    def _ask(self, consumer: _Consumer, now_s: float) -> None:
        if consumer.is_running or now_s > self._lasts_s:
            return
        held = consumer.later.rows
        batch = consumer.gaps.take_due(now_s)
        if consumer.later.rows < held and consumer.is_refilled_s <= now_s:
            consumer.is_refilled_s = now_s + self._refill_s
            self._at(consumer.is_refilled_s, self._read)
        if batch is None:
            self.shift.idle_in_vain += consumer.later.rows > 0 and consumer.now.rows == 0
            due_s = consumer.now.due_s(now_s)
            if due_s is not None and due_s != consumer.timer_s:
                consumer.timer_s = due_s
                self._at(max(due_s, now_s), lambda at_s: self._ask(consumer, at_s))
            return
        consumer.timer_s = FOREVER_S
        self.shift.expired += [task.name for task in batch.expired]
        if batch.items:
            self._start(consumer, batch, now_s)
        else:
            self._ask(consumer, now_s)
        self._read(now_s)

    def _start(self, consumer: _Consumer, batch: Batch[Task], now_s: float) -> None:
        rows = sum(task.load.rows for task in batch.items)
        run_s = self._device.run_s(self._computed(rows)) * max(0.2, self._rng.gauss(1.0, self._device.noise))
        consumer.is_running = True
        ordinary = tuple(task.name for task in batch.items if not task.is_later)
        later = tuple(task.name for task in batch.items if task.is_later)
        self.shift.runs.append(Run(consumer.number, now_s, now_s + run_s, ordinary, later, batch.reason))
        self.shift.topped_up += batch.topped_up
        self._at(now_s + run_s, lambda at_s: self._end(consumer, batch, rows, run_s, at_s))

    def _end(self, consumer: _Consumer, batch: Batch[Task], rows: int, run_s: float, now_s: float) -> None:
        consumer.is_running = False
        consumer.cost.observe(rows, run_s)
        self.shift.busy_s += run_s / len(self._consumers)
        self.shift.ended_s = now_s
        for task in batch.items:
            if task.is_later:
                self.shift.later_done[task.name] = now_s
            else:
                self.shift.latencies_s.append(now_s - task.sent_s)
        self._read(now_s)


def ordinary(rate_per_s: float, lasts_s: float, seed: int = 1) -> Iterator[Task]:
    """Requests at random, independent of one another."""
    rng = random.Random(seed)
    now_s = 0.0
    for name in count():
        now_s += rng.expovariate(rate_per_s)
        if now_s > lasts_s:
            return
        yield Task(name, now_s)


BULK_NAMES = 1_000_000
"""Names of bulk requests begin here."""


def endless(rows: int = 1) -> Iterator[Task]:
    """A batch lane that is never empty; a consumer takes no more than it has room for."""
    return (Task(name, 0.0, load=Load(rows, rows, 1), is_later=True) for name in count(BULK_NAMES))


class Endless(deque[Task]):
    """A lane that never runs dry."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        super().__init__()
        self._tasks = tasks

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> Task:
        """Return the next one."""
        return next(self._tasks)


def sent_at(times_s: Iterable[float]) -> Iterator[Task]:
    """Ordinary requests at these times, in order."""
    return (Task(name, sent_s) for name, sent_s in enumerate(times_s))


def shared_day(
    device: Device,
    load: float,
    lasts_s: float,
    *,
    has_bulk: bool,
    policy: Policy = ADAPTIVE,
    consumers: int = 1,
    seed: int = 1,
    computed: Callable[[int], int] = lambda rows: rows,
) -> Shift:
    """Ordinary requests at a share of the capacity, with an endless bulk job beside them or alone."""
    rate_per_s = load * device.capacity_per_s * consumers
    shared = Shared(
        device,
        ordinary(rate_per_s, lasts_s, seed),
        (),
        policy=policy,
        consumers=consumers,
        lasts_s=lasts_s,
        seed=seed,
        computed=computed,
    )
    if has_bulk:
        shared._bulk = Endless(endless())
        shared._at(0.0, shared._read)
    return shared.run()

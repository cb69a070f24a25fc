"""Consumers on a virtual clock: the real batcher and cost model, simulated requests and devices, never a real second.

Used by the tests of the batching policies and by ``tests/perf/policies.py``, which draws the picture of
``docs/batching.md``. Everything is seeded: the same arguments give the same day.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.load import ONE, Load, RowBudget


@dataclass(frozen=True)
class Device:
    """A model's cost: ``per_row_s`` a row and ``fixed_s`` a batch, up to ``max_rows``.

    Attributes:
        noise: standard deviation of a run's relative error.
        stalls: share of the runs that take five times as long, as beside a busy neighbour.
    """

    name: str
    per_row_s: float
    fixed_s: float
    max_rows: int = 32
    noise: float = 0.05
    stalls: float = 0.0

    @property
    def capacity_per_s(self) -> float:
        """Most rows a second."""
        return self.max_rows / self.run_s(self.max_rows)

    def run_s(self, rows: int) -> float:
        """Return the usual time of a batch."""
        return self.per_row_s * rows + self.fixed_s


CPU = Device("a network on a CPU", per_row_s=0.005, fixed_s=0.002)
GPU = Device("a network on a GPU", per_row_s=0.0001, fixed_s=0.008)
ECHO = Device("echo", per_row_s=0.00000005, fixed_s=0.000002, max_rows=64)
DEVICES = (CPU, GPU, ECHO)


@dataclass(frozen=True)
class Policy:
    """``window_ms`` as a literal window, or as the bound of ``adaptive``."""

    window_ms: float
    adaptive: bool = False

    def batcher(self, device: Device) -> tuple[Batcher[Job], BatchCost]:
        """Make the parts as a consumer does after calibration."""
        cost = BatchCost((rows, device.run_s(rows)) for rows in (1, 2, 4, 8, 16, 32))
        adaptive = Adaptive(cost, self.window_ms / 1000) if self.adaptive else None
        return Batcher(RowBudget(device.max_rows), self.window_ms / 1000, cost, adaptive), cost


ADAPTIVE = Policy(5.0, adaptive=True)


@dataclass(slots=True)
class Job:
    """A request; ``arrived_s`` is when a consumer claimed it, as in the real item."""

    name: int
    sent_s: float
    deadline_s: float
    arrived_s: float = 0.0
    load: Load = ONE


@dataclass
class Day:
    """What happened. ``started`` holds (name, second) in the order of starting, per consumer."""

    latencies_s: list[float] = field(default_factory=list)
    started: list[list[tuple[int, float]]] = field(default_factory=list)
    expired: list[tuple[int, float]] = field(default_factory=list)
    reasons: Counter[CloseReason] = field(default_factory=Counter)
    largest: int = 0
    busy_s: float = 0.0
    ended_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """Mean time from sending to the end of the run."""
        return sum(self.latencies_s) / len(self.latencies_s)

    def quantile_s(self, share: float) -> float:
        """Return a quantile of that time."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def rate_per_s(self) -> float:
        """Requests finished a second."""
        return len(self.latencies_s) / self.ended_s


class Consumer:
    """One device with its batcher; ``free_s`` is when its last run ended."""

    def __init__(self, number: int, batcher: Batcher[Job], cost: BatchCost) -> None:
        self.number, self.batcher, self.cost = number, batcher, cost
        self.free_s = 0.0
        self.running: list[Job] = []
        self.timer_s = float("inf")


class Simulation:
    """Consumers that share one stream; each reads at most one batch ahead, in the order in which they asked.

    Args:
        after: called when a request ends, with its job and the time; gives the next one of the same client, if any.
        warm_s: what ends before this is left out of the latencies.
    """

    def __init__(
        self,
        device: Device,
        policy: Policy,
        *,
        consumers: int = 1,
        seed: int = 1,
        after: Callable[[Job, float], Job | None] | None = None,
        warm_s: float = 0.0,
    ) -> None:
        self._device, self._after, self._warm_s = device, after, warm_s
        self._rng = random.Random(seed)
        self._consumers = [Consumer(number, *policy.batcher(device)) for number in range(consumers)]
        self._readers = deque(self._consumers)
        self._stream: deque[Job] = deque()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self.day = Day(started=[[] for _ in range(consumers)])

    def run(self, jobs: Iterable[Job]) -> Day:
        """Live through the day; ``jobs`` are in the order of their sending."""
        coming = iter(jobs)
        self._send_next(coming)
        while self._events:
            now_s, _, step = heapq.heappop(self._events)
            step(now_s)
            self.day.ended_s = now_s
        return self.day

    def _at(self, time_s: float, step: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), step))

    def _send_next(self, coming: Iterator[Job]) -> None:
        job = next(coming, None)
        if job is None:
            return

        def send(now_s: float) -> None:
            self._sent(job, now_s)
            self._send_next(coming)

        self._at(job.sent_s, send)

    def _sent(self, job: Job, now_s: float) -> None:
        self._stream.append(job)
        self._read(now_s)

    def _read(self, now_s: float) -> None:
        """Hand out what is on the stream to those that have room, the longest waiting first."""
        touched = []
        passed = 0
        while self._stream and passed < len(self._readers):
            consumer = self._readers[0]
            self._readers.rotate(-1)
            room = consumer.batcher.budget.most_rows - consumer.batcher.rows
            if room <= 0:
                passed += 1
                continue
            passed = 0
            for _ in range(min(room, len(self._stream))):
                job = self._stream.popleft()
                job.arrived_s = now_s
                consumer.batcher.add(job)
            consumer.batcher.ready(now_s)
            touched.append(consumer)
        for consumer in touched:
            self._ask(consumer, now_s)

    def _ask(self, consumer: Consumer, now_s: float) -> None:
        """What an idle executor does: take a batch, or wait until one is due."""
        if consumer.running:
            return
        batch = consumer.batcher.take_due(now_s)
        if batch is None:
            due_s = consumer.batcher.due_s(now_s)
            if due_s is not None and due_s != consumer.timer_s:
                consumer.timer_s = due_s
                self._at(max(due_s, now_s), lambda at_s: self._ask(consumer, at_s))
            return
        consumer.timer_s = float("inf")
        self.day.reasons[batch.reason] += 1
        self.day.expired += [(job.name, now_s) for job in batch.expired]
        self.day.started[consumer.number] += [(job.name, now_s) for job in batch.items]
        if batch.items:
            self._start(consumer, list(batch.items), now_s)
        elif consumer.batcher.rows:
            self._ask(consumer, now_s)
        self._read(now_s)

    def _start(self, consumer: Consumer, jobs: list[Job], now_s: float) -> None:
        rows = sum(job.load.rows for job in jobs)
        run_s = self._device.run_s(rows) * max(0.2, self._rng.gauss(1.0, self._device.noise))
        if self._rng.random() < self._device.stalls:
            run_s *= 5
        consumer.running = jobs
        self.day.largest = max(self.day.largest, rows)
        self.day.busy_s += run_s
        self._at(now_s + run_s, lambda at_s: self._end(consumer, rows, run_s, at_s))

    def _end(self, consumer: Consumer, rows: int, run_s: float, now_s: float) -> None:
        jobs, consumer.running = consumer.running, []
        consumer.free_s = now_s
        consumer.cost.observe(rows, run_s)
        for job in jobs:
            if now_s >= self._warm_s:
                self.day.latencies_s.append(now_s - job.sent_s)
            following = self._after(job, now_s) if self._after else None
            if following is not None:
                self._at(following.sent_s, lambda at_s, job=following: self._sent(job, at_s))  # type: ignore[misc]
        self._ask(consumer, now_s)


def poisson(rate_per_s: float, requests: int, seed: int = 1, ttl_s: float = 1e9) -> Iterable[Job]:
    """Requests at random, independent of one another."""
    rng = random.Random(seed)
    now_s = 0.0
    for name in range(requests):
        now_s += rng.expovariate(rate_per_s)
        yield Job(name, now_s, now_s + ttl_s)


def open_day(device: Device, policy: Policy, load: float, requests: int, *, consumers: int = 1, seed: int = 1) -> Day:
    """Poisson arrivals at a share of what the devices can take together."""
    rate_per_s = load * device.capacity_per_s * consumers
    simulation = Simulation(device, policy, consumers=consumers, seed=seed)
    return simulation.run(poisson(rate_per_s, requests, seed))


BURST_S = 0.0005


def burst_day(
    device: Device, policy: Policy, size: int, load: float, bursts: int, *, seed: int = 1, ttl_s: float = 1e9
) -> Day:
    """Independent bursts of ``size`` requests within half a millisecond, at a share of the device's capacity."""
    rng = random.Random(seed)

    def jobs() -> Iterable[Job]:
        now_s = 0.0
        for burst in range(bursts):
            now_s += BURST_S + rng.expovariate(load * device.capacity_per_s / size)
            for number in range(size):
                sent_s = now_s + BURST_S * number / size
                yield Job(burst * size + number, sent_s, sent_s + ttl_s)

    return Simulation(device, policy, seed=seed).run(jobs())


def closed_day(
    device: Device, policy: Policy, clients: int, travel_s: float, lasts_s: float, *, consumers: int = 1, seed: int = 1
) -> Day:
    """Clients that send the next request when they have the answer to the last, and ``travel_s`` later on average."""
    rng = random.Random(seed)
    names = count()

    def next_of(_: Job | None, now_s: float) -> Job | None:
        sent_s = now_s + travel_s * (0.5 + rng.expovariate(2.0))
        return Job(next(names), sent_s, sent_s + 1e9) if sent_s < lasts_s else None

    first = sorted((job for job in (next_of(None, 0.0) for _ in range(clients)) if job), key=lambda job: job.sent_s)
    return Simulation(device, policy, consumers=consumers, seed=seed, after=next_of).run(first)

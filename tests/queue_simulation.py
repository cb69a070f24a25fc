"""A whole queue on a virtual clock: front ends that admit, lanes, consumers that batch, crash and fall silent.

The parts are the real ones: prediction, lanes, batcher and lease book. Between them stands what Redis does: streams,
a list of who has claimed what since when, and the rule that the first commit counts. Everything is drawn from a seed;
``live(seed)`` gives the same day again, and raises an ``AssertionError`` that names the seed when a rule is broken.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import ONE, Load, RowBudget
from consumer.pipeline.leases import LeaseBook
from consumer.queue.deficit_round_robin import Lanes, Unclaimed
from consumer.queue.interface import Claim
from producer_api.load.wait_estimate import MOST_RETRY_AFTER_S, Backlog, Service

LEASE_S, LONGEST_S = 1.5, 2.0
STEP_S = 1e-9
LONGEST_DAY_S = 300.0


@dataclass(slots=True, eq=False)
class Entry:
    """One admitted request; an item of the batcher, too.

    Attributes:
        owner: the consumer's life that has claimed it; None while nobody has.
        renewed_s: when its lease began.
        isolated: it was taken over, and runs alone.
        end: how it ended; empty while it has not.
    """

    name: int
    lane: str
    added_s: float
    deadline_s: float
    arrived_s: float = 0.0
    load: Load = ONE
    owner: Life | None = None
    renewed_s: float = 0.0
    isolated: bool = False
    end: str = ""
    ended_s: float = 0.0
    starts: list[float] = field(default_factory=list)

    @property
    def key(self) -> Claim:
        """Its lane and id, as a lease book takes them."""
        return self.lane, b"%d-0" % self.name


@dataclass(eq=False)
class Life:
    """A consumer from its start to its crash."""

    batcher: Batcher[Entry]
    cost: BatchCost
    leases: LeaseBook = field(default_factory=LeaseBook)
    lanes: Lanes | None = None
    running: list[Entry] = field(default_factory=list)
    isolated: Entry | None = None
    alive: bool = True
    silent: bool = False
    timer_s: float = float("inf")
    ran: set[int] = field(default_factory=set)


@dataclass
class Day:
    """What happened: every entry, refusals, commits that came late, crashes and silences."""

    entries: list[Entry] = field(default_factory=list)
    refused: int = 0
    full: int = 0
    late: int = 0
    crashes: int = 0
    silences: int = 0
    taken_over: int = 0
    longest: int = 0


class Simulation:
    """One day; see the module."""

    def __init__(self, seed: int) -> None:
        self.seed, self._rng = seed, random.Random(seed)
        rng = self._rng
        self._now_s, self._order = 0.0, count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._max_rows, self._window_s = rng.randint(1, 16), rng.choice((0.0, 0.0, 0.005, 0.05))
        self._adaptive = rng.random() < 0.5
        self._fixed_s, self._row_s = rng.uniform(0.001, 0.02), rng.uniform(0.0001, 0.005)
        self._weights = {f"lane-{number}": rng.choice((1.0, 1.0, 2.0, 8.0)) for number in range(rng.randint(1, 3))}
        self._limit = rng.choice((4, 30, 200))
        self._streams: dict[str, list[Entry]] = {lane: [] for lane in self._weights}
        self._claimed: list[Entry] = []
        self._backlogs = {lane: Backlog() for lane in self._weights}
        self._lives = [self._born() for _ in range(rng.randint(1, 3))]
        self._trouble = rng.choice((0.0, 0.0, 0.5, 3.0))
        self.day = Day()

    # ---- the clock

    def _in(self, wait_s: float, step: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now_s + max(0.0, wait_s), next(self._order), step))

    def run(self) -> Day:
        """Live through the day."""
        rng = self._rng
        capacity = len(self._lives) * self._max_rows / (self._fixed_s + self._row_s * self._max_rows)
        rate, requests = capacity * rng.choice((0.3, 0.9, 2.0, 5.0)), rng.randint(5, 120)
        sent_s = 0.0
        for _ in range(requests):
            sent_s += rng.expovariate(rate)
            self._in(sent_s, lambda: self._arrive(rng.choice(list(self._weights))))
        for index in range(len(self._lives)):
            self._in(rng.uniform(0, LEASE_S / 3), lambda index=index: self._look(index))  # type: ignore[misc]
            self._in(LEASE_S / 4, lambda index=index: self._renew(index))  # type: ignore[misc]
        for _ in range(round(self._trouble * rng.uniform(0, 3))):
            self._in(rng.uniform(0, sent_s), self._disturb)
        self._until_s = sent_s
        while self._events and not self._is_over():
            self._now_s, _, step = heapq.heappop(self._events)
            assert self._now_s < self._until_s + LONGEST_DAY_S, self._where("the day does not end")
            step()
            self._check()
        assert self._is_over(), self._where("the day ended with work left")
        for life in self._lives:
            idle = life.alive and not life.silent and not life.running and life.isolated is None
            assert not idle or len(life.leases) == life.batcher.rows, self._where("a lease is held for nothing")
        return self.day

    def _is_over(self) -> bool:
        return self._now_s > self._until_s and all(entry.end for entry in self.day.entries)

    def _where(self, what: str) -> str:
        return f"seed {self.seed} at {self._now_s:.6f} s: {what}"

    # ---- front ends

    def _service(self) -> Service:
        batch_s = self._fixed_s + self._row_s * self._max_rows
        alive = sum(life.alive for life in self._lives)
        return Service(max(1, alive) * self._max_rows, batch_s)

    def _arrive(self, lane: str) -> None:
        rng, backlog, service = self._rng, self._backlogs[lane], self._service()
        ttl_s = rng.choice((0.01, 0.1, 2.0, 20.0))
        stream = self._streams[lane]
        backlog.service = service
        first = backlog.before_room(service, ttl_s, self._now_s)
        if first > 0.0:
            assert backlog.length >= service.wave, self._where("refused although consumers may be idle")
            assert 1 <= backlog.retry_after_s(first) <= MOST_RETRY_AFTER_S
            self.day.refused += 1
        elif self._length(lane) >= self._limit:
            self.day.full += 1
        else:
            entry = Entry(len(self.day.entries), lane, self._now_s, self._now_s + ttl_s)
            self.day.entries.append(entry)
            stream.append(entry)
            backlog.told(self._length(lane), self._now_s)
            self._read_all()

    def _length(self, lane: str) -> int:
        return len(self._streams[lane]) + sum(entry.lane == lane for entry in self._claimed)

    # ---- consumers

    def _born(self) -> Life:
        cost = BatchCost()
        adaptive = Adaptive(cost, self._window_s) if self._adaptive else None
        life = Life(Batcher(RowBudget(self._max_rows), self._window_s, cost, adaptive), cost)
        life.lanes = Lanes(self._weights, ageing_s=1.0)
        return life

    def _read_all(self) -> None:
        for life in self._rng.sample(self._lives, len(self._lives)):
            self._read(life)
            self._run(life)

    def _read(self, life: Life) -> None:
        """Claim what there is room for, shared among the lanes."""
        room = life.batcher.budget.most_rows - life.batcher.rows
        if not life.alive or life.silent or room <= 0:
            return
        waiting = {
            lane: Unclaimed(len(stream), self._now_s - stream[0].added_s if stream else 0.0)
            for lane, stream in self._streams.items()
        }
        assert life.lanes is not None
        shares = life.lanes.share(room, waiting)
        most = min(room, sum(one.count for one in waiting.values()))
        assert sum(shares.values()) == most, self._where(f"{shares} of {waiting} with room for {room}")
        for lane, number in shares.items():
            taken, self._streams[lane] = self._streams[lane][:number], self._streams[lane][number:]
            for entry in taken:
                self._claim(life, entry)
                life.batcher.add(entry)
        life.batcher.ready(self._now_s)

    def _claim(self, life: Life, entry: Entry) -> None:
        assert life.leases.take(entry.key), self._where(f"entry {entry.name} was taken twice")
        entry.owner, entry.renewed_s, entry.arrived_s = life, self._now_s, self._now_s
        if entry not in self._claimed:
            self._claimed.append(entry)

    def _run(self, life: Life) -> None:
        """What an idle executor does."""
        if not life.alive or life.silent or life.running:
            return
        if life.isolated is not None:
            entry, life.isolated = life.isolated, None
            self._start(life, [] if entry.deadline_s <= self._now_s else [entry])
            if entry.deadline_s <= self._now_s:
                self._expire(life, entry)
                self._run(life)
            return
        batch = life.batcher.take_due(self._now_s)
        if batch is None:
            due_s = life.batcher.due_s(self._now_s)
            if due_s is not None and due_s != life.timer_s:
                life.timer_s = due_s
                self._in(due_s - self._now_s, lambda: self._run(life))
            return
        life.timer_s = float("inf")
        for entry in batch.expired:
            self._expire(life, entry)
        self._start(life, list(batch.items))
        self._read(life)
        if not life.running:
            self._run(life)

    def _start(self, life: Life, entries: list[Entry]) -> None:
        if not entries:
            return
        rows = sum(entry.load.rows for entry in entries)
        assert rows <= self._max_rows, self._where(f"a batch of {rows}")
        for entry in entries:
            assert entry.deadline_s > self._now_s, self._where(f"entry {entry.name} starts after its deadline")
            assert entry.name not in life.ran, self._where(f"entry {entry.name} runs twice in one life")
            life.ran.add(entry.name)
            entry.starts.append(self._now_s)
        run_s = (self._fixed_s + self._row_s * rows) * self._rng.uniform(0.7, 1.5)
        life.running = entries
        self._in(run_s, lambda: self._ran(life, rows, run_s))

    def _ran(self, life: Life, rows: int, run_s: float) -> None:
        if not life.alive:
            return
        if life.silent:  # it goes on where it stopped
            self._in(LEASE_S / 10, lambda: self._ran(life, rows, run_s))
            return
        entries, life.running = life.running, []
        life.cost.observe(rows, run_s)
        for entry in entries:
            self._commit(life, entry, "answered")
        self._read(life)
        self._run(life)

    def _expire(self, life: Life, entry: Entry) -> None:
        assert entry.deadline_s <= self._now_s, self._where(f"entry {entry.name} expired before its deadline")
        self._commit(life, entry, "expired")

    def _commit(self, life: Life, entry: Entry, end: str) -> None:
        """The first one counts, whoever owns the entry; a late one changes nothing."""
        life.leases.release([entry.key])
        if entry.end:
            self.day.late += 1
            return
        assert entry in self._claimed, self._where(f"entry {entry.name} ends without having been claimed")
        self._claimed.remove(entry)
        entry.end, entry.ended_s = end, self._now_s
        backlog = self._backlogs[entry.lane]
        backlog.answered(self._service(), backlog.length, self._now_s - entry.added_s + STEP_S)

    # ---- leases

    def _renew(self, index: int) -> None:
        life = self._lives[index]
        if life.alive and not life.silent:
            held = set(life.leases.held())
            for entry in self._claimed:
                if entry.owner is life and entry.key in held:
                    entry.renewed_s = self._now_s
        self._in(LEASE_S / 4, lambda: self._renew(index))

    def _look(self, index: int) -> None:
        """Take over one entry whose lease has run out, three times per lease, or at once again."""
        life = self._lives[index]
        found = False
        if life.alive and not life.silent and life.isolated is None:
            for entry in self._claimed:
                if self._now_s - entry.renewed_s >= LEASE_S and not life.leases.holds(entry.key):
                    found = entry.isolated = True
                    self._claim(life, entry)
                    life.isolated = entry
                    self.day.taken_over += 1
                    self._run(life)
                    break
        self._in(0.001 if found else LEASE_S / 3, lambda: self._look(index))

    def _disturb(self) -> None:
        """A consumer crashes, or falls silent for longer than a lease."""
        index = self._rng.randrange(len(self._lives))
        life = self._lives[index]
        if self._rng.random() < 0.5:
            life.alive = False
            self.day.crashes += 1
            self._in(self._rng.uniform(0.1, 1.0), lambda: self._replace(index, life))
        elif life.alive:
            life.silent = True
            self.day.silences += 1
            self._in(self._rng.uniform(0.1, 2.5 * LEASE_S), lambda: self._wake(life))

    def _replace(self, index: int, dead: Life) -> None:
        if self._lives[index] is dead:
            self._lives[index] = self._born()
            self._read_all()

    def _wake(self, life: Life) -> None:
        life.silent = False
        self._read(life)
        self._run(life)

    # ---- what must be so

    def _check(self) -> None:
        """Bounded queues, and nobody idle while there is work."""
        for lane in self._streams:
            length = self._length(lane)
            self.day.longest = max(self.day.longest, length)
            assert length <= self._limit, self._where(f"{lane} holds {length}")
        unclaimed = sum(map(len, self._streams.values()))
        for life in self._lives:
            assert life.batcher.rows <= self._max_rows, self._where(f"a consumer holds {life.batcher.rows} rows")
            if not life.alive or life.silent or life.running:
                continue
            assert unclaimed == 0, self._where(f"a consumer is idle while {unclaimed} wait")
            due_s = life.batcher.due_s(self._now_s)
            assert due_s is None or due_s > self._now_s, self._where("a consumer is idle while a batch is due")
            assert life.isolated is None, self._where("a consumer is idle while an entry waits to run alone")


def live(seed: int) -> Day:
    """Live through one day and hold it against the promises.

    Raises:
        AssertionError: one is broken; the sentence names the seed.
    """
    simulation = Simulation(seed)
    day = simulation.run()
    assert all(entry.end for entry in day.entries), f"seed {seed}: something was lost"
    troubles = day.crashes + day.silences
    for entry in day.entries:
        where = f"seed {seed}, entry {entry.name}"
        assert (entry.end == "answered") <= bool(entry.starts), where
        if not troubles:
            assert len(entry.starts) <= 1, f"{where} is in {len(entry.starts)} batches"
        # Whoever takes it over may crash or fall silent once more; searching takes a third of a lease.
        latest_s = max(entry.deadline_s, entry.added_s) + (troubles + 1) * (3.5 * LEASE_S + 1.0) + LONGEST_S
        assert entry.ended_s <= latest_s, f"{where} ended {entry.ended_s - entry.deadline_s:.3f} s after its deadline"
    if not troubles:
        assert (day.late, day.taken_over) == (0, 0), f"seed {seed}: leases of living consumers ran out"
    return day

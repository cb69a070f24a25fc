"""A consumer's day on a virtual clock: arrivals, deadlines, a device that is busy, and never a real second.

Each seed is a day of its own. A seed that fails is replayed by ``live(seed)``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Load, RowBudget
from consumer.pipeline.leases import LeaseBook

SEEDS = range(10_000)
CHUNK = 2500


@dataclass(frozen=True)
class Job:
    name: int
    arrived_s: float
    load: Load
    deadline_s: float


@dataclass
class Day:
    """What happened: when each job started or was found dead, and what each batch held."""

    jobs: list[Job]
    window_s: float
    max_rows: int
    adaptive: bool
    started_s: dict[int, float] = field(default_factory=dict)
    refused_s: dict[int, float] = field(default_factory=dict)
    idle_since_s: dict[int, float] = field(default_factory=dict)


def live(seed: int) -> Day:
    """Live through one day."""
    rng = random.Random(seed)
    max_rows, window_s = rng.randint(1, 16), rng.choice((0.0, 0.005, 0.05))
    cost = BatchCost()
    adaptive = Adaptive(cost, window_s) if rng.random() < 0.5 else None
    batcher: Batcher[Job] = Batcher(RowBudget(max_rows), window_s, cost, adaptive)
    leases = LeaseBook()
    cost_s = rng.uniform(0.0005, 0.01)
    jobs, now_s = [], 0.0
    for number in range(rng.randint(1, 60)):
        now_s += rng.expovariate(rng.choice((50, 500, 5000)))
        rows = rng.randint(1, max_rows) if rng.random() < 0.2 else 1
        jobs.append(Job(number, now_s, Load(rows, rows, 1), now_s + rng.choice((0.002, 0.05, 1.0, 60.0))))
    day = Day(jobs, window_s, max_rows, adaptive is not None)
    coming, free_s, now_s = list(reversed(jobs)), 0.0, 0.0
    while coming or batcher.rows:
        batch = batcher.take_due(now_s) if now_s >= free_s else None
        if batch is None:
            due_s = batcher.due_s(now_s) if now_s >= free_s else free_s
            assert due_s is None or due_s > now_s, f"seed {seed}: due at {due_s} but not given at {now_s}"
            arrives_s = coming[-1].arrived_s if coming else float("inf")
            now_s = max(now_s, min(arrives_s, float("inf") if due_s is None else due_s))
            if coming and arrives_s <= now_s:
                job = coming.pop()
                claim = ("default", b"%d-0" % job.name)
                assert leases.take(claim)
                assert not leases.take(claim)
                batcher.add(job)
                batcher.ready(now_s)
            continue
        for job in batch.expired:
            day.refused_s[job.name] = now_s
        for job in batch.items:
            day.started_s[job.name] = now_s
            day.idle_since_s[job.name] = free_s
        rows = sum(job.load.rows for job in batch.items)
        assert rows <= max_rows, f"seed {seed}: {rows} rows in a batch of at most {max_rows}"
        if batch.items:
            run_s = cost_s * (1 + rows * rng.uniform(0.1, 0.5))
            free_s = now_s + run_s
            cost.observe(rows, run_s)
        leases.release(("default", b"%d-0" % job.name) for job in (*batch.items, *batch.expired))
    assert len(leases) == 0
    return day


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.soak) for first in range(CHUNK, SEEDS.stop, CHUNK))]
)
def test_every_day_ends_well(first: int) -> None:
    for seed in range(first, first + CHUNK):
        day = live(seed)
        where = f"seed {seed}"
        assert set(day.started_s) | set(day.refused_s) == {job.name for job in day.jobs}, where
        assert not set(day.started_s) & set(day.refused_s), where
        assert list(day.started_s) == sorted(day.started_s), where
        for job in day.jobs:
            started_s = day.started_s.get(job.name)
            if started_s is None:
                assert day.refused_s[job.name] >= job.deadline_s, where
                continue
            assert job.arrived_s <= started_s < job.deadline_s, where
            # While the device is free nobody waits longer than the window: from the arrival, or from the end of a run.
            idle_s = day.idle_since_s[job.name]
            window_end_s = max(job.arrived_s, idle_s) if day.adaptive else job.arrived_s
            assert started_s <= max(window_end_s + day.window_s, idle_s) + 1e-9, where


def test_a_day_can_be_replayed() -> None:
    assert live(7) == live(7)

"""The predicted wait: its properties, and what it does to a service that is asked for five times what it can do."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.load.wait_estimate import MOST_RETRY_AFTER_S, SHARE, Backlog, Service, service_of
from shared.state.cards import BatchSettings

services = st.builds(Service, st.integers(1, 4096), st.floats(1e-5, 10.0))
counts = st.integers(0, 1_000_000)
limits = st.floats(0.001, 3600.0)


def backlog_of(length: int, service: Service, slowness: float = 1.0) -> Backlog:
    backlog = Backlog()
    backlog.service, backlog.slowness = service, slowness
    backlog.told(length, 0.0)
    return backlog


def time_s(service: Service, ahead: float) -> float:
    """How long the answer takes when so many requests are in the lane."""
    return ahead * service.batch_s / service.wave + service.batch_s


@given(services, counts, limits)
def test_who_is_let_in_has_time_enough(service: Service, length: int, limit_s: float) -> None:
    backlog = backlog_of(length, service)
    if backlog.before_room(service, limit_s, 0.0) == 0.0:
        assert length < service.wave or time_s(service, length) <= limit_s * SHARE * 1.000001
    else:
        assert length >= service.wave
        assert time_s(service, length) >= limit_s * SHARE * 0.999999


@given(services, counts, limits)
def test_there_is_room_again_after_the_time_that_was_named(service: Service, more: int, limit_s: float) -> None:
    backlog = backlog_of(math.ceil(max(service.wave, limit_s * service.rate)) + more, service)
    first = backlog.before_room(service, limit_s, 0.0)
    assert first > 0.0
    wait_s = backlog.retry_after_s(first)
    assert 1 <= wait_s <= MOST_RETRY_AFTER_S
    if wait_s < MOST_RETRY_AFTER_S:
        assert backlog.before_room(service, limit_s, float(wait_s)) == 0.0


@given(services, counts, limits, st.floats(1.0, 50.0))
def test_slow_consumers_let_fewer_in(service: Service, length: int, limit_s: float, slowness: float) -> None:
    if backlog_of(length, service).before_room(service, limit_s, 0.0) > 0.0:
        assert backlog_of(length, service, slowness).before_room(service, limit_s, 0.0) > 0.0


@given(services, st.floats(0.5, 100.0), counts)
def test_the_slowness_is_learned(service: Service, true: float, more: int) -> None:
    ahead = (service.wave + 1) // 2 + more
    backlog = backlog_of(0, service)
    for _ in range(300):
        backlog.answered(service, ahead, time_s(service, ahead) * true)
    assert backlog.slowness == pytest.approx(true, rel=0.01)


@given(services, st.sampled_from([0.0, -1.0, math.inf, math.nan, 1e9, 1e-9]))
def test_nothing_seen_spoils_the_estimate(service: Service, took_s: float) -> None:
    backlog = backlog_of(0, service)
    for _ in range(500):
        backlog.answered(service, service.wave, took_s)
    assert 0.5 <= backlog.slowness <= 100.0


@given(services, counts, st.floats(0.5, 100.0), st.floats(1e-6, 100.0))
def test_who_went_away_proves_that_it_is_slow_and_never_that_it_is_quick(
    service: Service, ahead: int, slowness: float, took_s: float
) -> None:
    backlog = backlog_of(0, service, slowness)
    backlog.answered(service, ahead, took_s, or_longer=True)
    assert backlog.slowness >= slowness


@given(counts, counts, st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_the_newest_length_counts(told: int, seen: int, told_s: float, asked_s: float) -> None:
    backlog = Backlog()
    backlog.told(told, told_s)
    backlog.seen(seen, asked_s)
    assert backlog.length == (seen if asked_s > told_s else told)


def test_what_is_not_known_is_not_predicted() -> None:
    known = BatchSettings(8, 5.0, "adaptive", 4, 2.0, 1.0)
    assert service_of(known, 2) == Service(8, 0.006)
    assert service_of(BatchSettings(8, 5.0, "window", 4, 2.0, 1.0), 1) == Service(8, 0.010)
    assert service_of(known, 0) is None
    assert service_of(BatchSettings(8, 5.0, "adaptive"), 2) is None
    # 2,000 tokens of 0.5 ms each are 20 texts of 50 ms, however many rows a batch may have.
    texts = BatchSettings(512, 5.0, "window", 100, 4.0, 50.0, "token", 2000, 0.5)
    found = service_of(texts, 2)
    assert found == Service(40, 1.004, 4000 / 1.004)
    assert service_of(BatchSettings(8, 5.0, "adaptive", 8, 0.0, 0.0), 2) is None
    assert Backlog().retry_after_s(1e9) == 1


@dataclass
class Overload:
    """Consumers on virtual time, front ends that admit to one lane, and clients that never wait for one another."""

    workers: int
    rows: int
    batch_s: float
    limit_s: float
    front_ends: int
    claimed: float = 1.0
    took_s: list[float] = field(default_factory=list)
    refused: int = 0
    running: int = 0

    def run(self, load: float, seconds: float, seed: int) -> None:
        """Send ``load`` times the capacity; the card claims that a batch takes ``claimed`` times what it does."""
        chance = random.Random(seed)
        service = Service(self.workers * self.rows, self.batch_s * self.claimed)
        rate = load * self.workers * self.rows / self.batch_s
        backlogs = [backlog_of(0, service) for _ in range(self.front_ends)]
        idle, ends = self.workers, list[tuple[float, int, list[tuple[float, int, Backlog]]]]()
        waiting: deque[tuple[float, int, Backlog]] = deque()
        now_s, serial, next_s = 0.0, 0, chance.expovariate(rate)
        while now_s < seconds:
            if ends and ends[0][0] <= next_s:
                now_s, _, batch = heapq.heappop(ends)
                idle, self.running = idle + 1, self.running - len(batch)
                for since_s, ahead, backlog in batch:
                    self.took_s.append(now_s - since_s)
                    backlog.answered(service, ahead, now_s - since_s)
            else:
                now_s, next_s = next_s, next_s + chance.expovariate(rate)
                backlog = chance.choice(backlogs)
                if backlog.before_room(service, self.limit_s, now_s) > 0.0:
                    self.refused += 1
                else:
                    waiting.append((now_s, backlog.length, backlog))
                    backlog.told(len(waiting) + self.running, now_s)
            while idle and waiting:
                batch = [waiting.popleft() for _ in range(min(self.rows, len(waiting)))]
                idle, self.running, serial = idle - 1, self.running + len(batch), serial + 1
                heapq.heappush(ends, (now_s + self.batch_s * chance.uniform(0.9, 1.1), serial, batch))


@pytest.mark.parametrize("claimed", [0.2, 1.0, 2.0])
@pytest.mark.parametrize(("workers", "front_ends"), [(1, 1), (4, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_at_five_times_its_capacity_it_keeps_its_word(workers: int, front_ends: int, claimed: float, seed: int) -> None:
    """With a card that is right, and with one that promises five times too much or half of what is true."""
    rows, batch_s, limit_s = 8, 0.05, 1.0
    service = Overload(workers, rows, batch_s, limit_s, front_ends, claimed)
    service.run(5.0, 20.0, seed)
    has_learned = len(service.took_s) // 5 if claimed < 1.0 else 0
    took_s = sorted(service.took_s[has_learned:])
    assert took_s[int(0.99 * len(took_s))] <= limit_s
    assert len(service.took_s) / 20.0 >= 0.95 * workers * rows / batch_s
    assert service.refused > 3 * len(service.took_s)


def test_a_pause_teaches_nothing_and_what_was_learned_in_its_first_moments_is_forgotten() -> None:
    backlog, service = Backlog(), Service(8, 0.1)
    for _ in range(50):
        backlog.answered(service, service.wave, 60.0, 10.0)  # the consumers have stopped, and nobody knows yet
    assert backlog.slowness > 2
    backlog.paused(20.0)
    assert backlog.slowness == 1.0
    backlog.answered(service, service.wave, 60.0, 19.0)
    assert backlog.slowness == 1.0
    backlog.answered(service, service.wave, 60.0, 21.0)
    assert backlog.slowness > 1.0

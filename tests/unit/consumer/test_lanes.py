"""Sharing a consumer among lanes: nothing wasted, in proportion, nobody starved, and a flood harms the flooder."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.lanes import Lanes, Turns, Waiting

NAMES = st.sampled_from(["a", "b", "c", "d"])
WEIGHTS = st.dictionaries(NAMES, st.floats(0.01, 100.0), min_size=1)
COUNTS = st.dictionaries(NAMES, st.integers(0, 500))
QUEUES = st.dictionaries(NAMES, st.builds(Waiting, st.integers(0, 500), st.floats(0.0, 100.0)))


@given(WEIGHTS, st.lists(st.tuples(st.integers(0, 300), QUEUES), max_size=20))
def test_room_is_filled_as_far_as_anything_waits_and_never_beyond(
    weights: dict[str, float], rounds: list[tuple[int, dict[str, Waiting]]]
) -> None:
    lanes = Lanes(weights, ageing_s=1.0)
    for room, waiting in rounds:
        taken = lanes.share(room, waiting)
        known = {lane: one.count for lane, one in waiting.items() if lane in weights}
        assert sum(taken.values()) == min(room, sum(known.values()))
        assert all(0 < count <= known[lane] for lane, count in taken.items())


@given(WEIGHTS, st.lists(st.integers(1, 64), min_size=1, max_size=100))
def test_who_competes_gets_a_share_in_proportion(weights: dict[str, float], rooms: list[int]) -> None:
    lanes, got = Lanes(weights), dict.fromkeys(weights, 0)
    for room in rooms:
        for lane, count in lanes.share(room, {lane: Waiting(10_000) for lane in weights}).items():
            got[lane] += count
    for lane, weight in weights.items():
        assert abs(got[lane] - sum(rooms) * weight / sum(weights.values())) <= len(weights)


def test_silence_earns_nothing() -> None:
    lanes = Lanes({"busy": 1.0, "silent": 1.0})
    for _ in range(100):
        assert lanes.share(8, {"busy": Waiting(1000)}) == {"busy": 8}
    assert lanes.share(8, {"busy": Waiting(1000), "silent": Waiting(1000)}) == {"busy": 4, "silent": 4}


def test_a_small_weight_is_not_starved_once_it_has_waited() -> None:
    lanes = Lanes({"high": 1000.0, "low": 1.0}, ageing_s=0.01)
    assert lanes.share(8, {"high": Waiting(100), "low": Waiting(1, 0.0)}) == {"high": 8}
    assert lanes.share(8, {"high": Waiting(100), "low": Waiting(1, 5.0)}) == {"high": 7, "low": 1}


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of lane a"):
        Lanes({"a": weight})


def test_an_ageing_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="ageing_s"):
        Lanes({"a": 1.0}, ageing_s=0.0)


def test_who_waits_for_a_turn_ages_and_who_gets_one_does_not() -> None:
    turns, counts, got = Turns({"high": 1000.0, "low": 1.0}), {"high": 10_000, "low": 10_000}, 0
    waits, waited_s = [], 0.0
    for batch in range(2000):
        taken = turns.share(8, counts, batch * 0.05)
        waited_s = 0.0 if "low" in taken else waited_s + 0.05
        waits.append(waited_s)
        got += taken.get("low", 0)
    assert max(waits) < 5.0  # without ageing it would be 6.25 s
    assert got < 0.05 * 2000 * 8  # and it stays a small weight


def test_an_old_backlog_has_no_advantage() -> None:
    turns = Turns({"flooded": 1.0, "quiet": 1.0})
    for batch in range(1000):
        assert turns.share(8, {"flooded": 100_000, "quiet": 0}, batch * 0.05) == {"flooded": 8}
    assert turns.share(8, {"flooded": 100_000, "quiet": 8}, 50.0) == {"flooded": 4, "quiet": 4}


def test_who_has_less_than_its_share_of_a_full_batch_goes_ahead() -> None:
    turns = Turns({"flooded": 1.0, "quiet": 1.0, "low": 0.001})
    counts = {"flooded": 1000, "quiet": 100, "low": 100}
    assert turns.share_ahead(8, counts, {"flooded": 8}, 0.0) == {"quiet": 3}
    assert turns.share_ahead(8, {**counts, "low": 0}, {"flooded": 8}, 0.0) == {"quiet": 4}
    assert turns.share_ahead(8, {**counts, "low": 0, "quiet": 1}, {"flooded": 8}, 0.0) == {"quiet": 1}
    assert turns.share_ahead(8, {**counts, "low": 0}, {"flooded": 8, "quiet": 3}, 0.0) == {"quiet": 1}
    assert turns.share_ahead(8, counts, {"flooded": 4, "quiet": 4}, 0.0) == {}


@given(
    WEIGHTS, st.integers(1, 64), st.dictionaries(NAMES, st.integers(0, 500)), st.dictionaries(NAMES, st.integers(0, 64))
)
def test_those_who_go_ahead_fit_into_one_batch(
    weights: dict[str, float], rows: int, counts: dict[str, int], present: dict[str, int]
) -> None:
    known = {lane: count for lane, count in counts.items() if lane in weights}
    taken = Turns(weights).share_ahead(rows, known, present, 0.0)
    assert sum(taken.values()) <= rows
    assert all(0 < count <= known[lane] for lane, count in taken.items())


def quiet_lanes_p99_s(flood: float, seed: int, rows: int = 8, batch_s: float = 0.05) -> float:
    """Simulate one consumer and two lanes of equal weight; return what the quiet one's requests waited.

    The quiet lane uses a quarter of the capacity, the other ``flood`` times all of it.
    """
    chance, lanes = random.Random(seed), Lanes({"quiet": 1.0, "loud": 1.0})
    rates = {"quiet": 0.25 * rows / batch_s, "loud": flood * rows / batch_s}
    queues: dict[str, deque[float]] = {"quiet": deque(), "loud": deque()}
    arrivals = [(chance.expovariate(rate), lane) for lane, rate in rates.items() if rate > 0.0]
    heapq.heapify(arrivals)
    waits_s: list[float] = []
    free_s = 0.0
    while free_s < 200.0:
        if not any(queues.values()):
            free_s = max(free_s, arrivals[0][0])
        while arrivals[0][0] <= free_s:
            at_s, lane = heapq.heappop(arrivals)
            if len(queues[lane]) < 2048:
                queues[lane].append(at_s)
            heapq.heappush(arrivals, (at_s + chance.expovariate(rates[lane]), lane))
        taken = lanes.share(rows, {lane: Waiting(len(queue)) for lane, queue in queues.items()})
        for lane, count in taken.items():
            for _ in range(count):
                at_s = queues[lane].popleft()
                if lane == "quiet":
                    waits_s.append(free_s + batch_s - at_s)
        free_s += batch_s
    return sorted(waits_s)[int(0.99 * len(waits_s))]


@pytest.mark.parametrize("seed", range(3))
def test_a_flood_costs_the_other_lane_one_batch_at_most(seed: int) -> None:
    assert quiet_lanes_p99_s(10.0, seed) <= quiet_lanes_p99_s(0.0, seed) + 0.05

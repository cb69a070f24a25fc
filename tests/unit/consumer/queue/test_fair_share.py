"""Sharing a consumer among lanes: nothing wasted, in proportion, nobody starved, and a flood harms the flooder."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import math
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import ONE, Load, RowBudget
from consumer.queue.deficit_round_robin import Lanes, Unclaimed
from consumer.queue.fair_share import FairShare
from tests.helpers import first

NAMES = st.sampled_from(["a", "b", "c", "d"])
WEIGHTS = st.dictionaries(NAMES, st.floats(0.01, 100.0), min_size=1)
COUNTS = st.dictionaries(NAMES, st.integers(0, 500))
QUEUES = st.dictionaries(NAMES, st.builds(Unclaimed, st.integers(0, 500), st.floats(0.0, 100.0)))


@given(WEIGHTS, st.lists(st.tuples(st.integers(0, 300), QUEUES), max_size=20))
def test_room_is_filled_as_far_as_anything_waits_and_never_beyond(
    weights: dict[str, float], rounds: list[tuple[int, dict[str, Unclaimed]]]
) -> None:
    lanes = Lanes(weights, ageing_s=1.0)
    for room, waiting in rounds:
        taken = lanes.share(room, waiting)
        known = {lane: one.count for lane, one in waiting.items() if lane in weights}
        assert sum(taken.values()) == min(room, sum(known.values()))
        assert all(0 < count <= known[lane] for lane, count in taken.items())


def test_no_more_is_taken_than_there_is_room_for_although_more_is_owed() -> None:
    lanes = Lanes(dict.fromkeys("abc", 1.0))
    for room, counts in ((4, (1, 3, 3)), (2, (1, 2, 3)), (1, (0, 1, 3))):
        taken = lanes.share(room, {lane: Unclaimed(count) for lane, count in zip("abc", counts, strict=True)})
        assert sum(taken.values()) == room


@given(WEIGHTS, st.lists(st.integers(1, 64), min_size=1, max_size=100))
def test_who_competes_gets_a_share_in_proportion(weights: dict[str, float], rooms: list[int]) -> None:
    lanes, got = Lanes(weights), dict.fromkeys(weights, 0)
    for room in rooms:
        for lane, count in lanes.share(room, {lane: Unclaimed(10_000) for lane in weights}).items():
            got[lane] += count
    for lane, weight in weights.items():
        assert abs(got[lane] - sum(rooms) * weight / sum(weights.values())) <= len(weights)


def test_silence_earns_nothing() -> None:
    lanes = Lanes({"busy": 1.0, "silent": 1.0})
    for _ in range(100):
        assert lanes.share(8, {"busy": Unclaimed(1000)}) == {"busy": 8}
    assert lanes.share(8, {"busy": Unclaimed(1000), "silent": Unclaimed(1000)}) == {"busy": 4, "silent": 4}


def test_a_small_weight_is_not_starved_once_it_has_waited() -> None:
    lanes = Lanes({"high": 1000.0, "low": 1.0}, ageing_s=0.01)
    assert lanes.share(8, {"high": Unclaimed(100), "low": Unclaimed(1, 0.0)}) == {"high": 8}
    assert lanes.share(8, {"high": Unclaimed(100), "low": Unclaimed(1, 5.0)}) == {"high": 7, "low": 1}


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of lane a"):
        Lanes({"a": weight})


def test_an_ageing_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="ageing_s"):
        Lanes({"a": 1.0}, ageing_s=0.0)


def test_who_waits_for_a_turn_ages_and_who_gets_one_does_not() -> None:
    fair_share, counts, got = FairShare({"high": 1000.0, "low": 1.0}), {"high": 10_000, "low": 10_000}, 0
    waits, waited_s = [], 0.0
    for batch in range(2000):
        taken = fair_share.share(8, counts, batch * 0.05)
        waited_s = 0.0 if "low" in taken else waited_s + 0.05
        waits.append(waited_s)
        got += taken.get("low", 0)
    assert max(waits) < 5.0  # without ageing it would be 6.25 s
    assert got < 0.05 * 2000 * 8  # and it stays a small weight


def test_an_old_backlog_has_no_advantage() -> None:
    fair_share = FairShare({"flooded": 1.0, "quiet": 1.0})
    for batch in range(1000):
        assert fair_share.share(8, {"flooded": 100_000, "quiet": 0}, batch * 0.05) == {"flooded": 8}
    assert fair_share.share(8, {"flooded": 100_000, "quiet": 8}, 50.0) == {"flooded": 4, "quiet": 4}


@pytest.mark.parametrize(
    ("counts", "present", "ahead"),
    [
        ({"quiet": 1}, {"flooded": 8}, {"quiet": 1}),
        ({"quiet": 3}, {"flooded": 8}, {"quiet": 3}),
        ({"quiet": 100}, {"flooded": 8}, {"quiet": 8}),  # it has left its own share to others until now
        ({"quiet": 100}, {"flooded": 8, "quiet": 3}, {"quiet": 5}),  # in all no more than one batch holds
        ({"quiet": 100, "low": 100}, {"flooded": 8}, {"quiet": 8}),  # too small a weight for one request
        ({"quiet": 100}, {"flooded": 4, "quiet": 4}, {}),  # both have their share
        ({}, {"flooded": 8, "quiet": 1}, {}),  # nobody goes ahead of its own
    ],
)
def test_who_has_used_less_than_its_share_goes_ahead_into_a_full_batch(
    counts: dict[str, int], present: dict[str, int], ahead: dict[str, int]
) -> None:
    fair_share = FairShare({"flooded": 1.0, "quiet": 1.0, "low": 0.001})
    for batch in range(10):
        fair_share.share(8, {"flooded": 1000}, batch * 0.05)
    assert fair_share.priority_share(8, {"flooded": 1000} | counts, present, 1.0) == ahead


def test_what_goes_ahead_is_a_share_in_the_long_run() -> None:
    fair_share, got = FairShare({"flooded": 1.0, "quiet": 1.0}), 0
    for batch in range(100):
        ahead = fair_share.priority_share(8, {"flooded": 1000, "quiet": 1000}, {"flooded": 8}, batch * 0.05).get(
            "quiet", 0
        )
        assert fair_share.share(8 - ahead, {"flooded": 1000}, batch * 0.05) == (
            {"flooded": 8 - ahead} if ahead < 8 else {}
        )
        got += ahead
    assert 400 <= got <= 400 + 24


@given(
    WEIGHTS, st.integers(1, 64), st.dictionaries(NAMES, st.integers(0, 500)), st.dictionaries(NAMES, st.integers(0, 64))
)
def test_those_who_go_ahead_fit_into_one_batch(
    weights: dict[str, float], rows: int, counts: dict[str, int], present: dict[str, int]
) -> None:
    known = {lane: count for lane, count in counts.items() if lane in weights}
    taken = FairShare(weights).priority_share(rows, known, present, 0.0)
    assert sum(taken.values()) <= rows
    assert all(0 < count <= known[lane] for lane, count in taken.items())


@dataclasses.dataclass
class Waits:
    """A request of the simulation."""

    lane: str
    arrived_s: float
    load: Load = ONE
    deadline_s: float = math.inf


class Device:
    """A consumer with two lanes of equal weight on a virtual clock: a batch runs, and at most one waits."""

    ROWS, BATCH_S, LOOK_S = 8, 0.05, 0.005

    def __init__(self, quiet: float, flood: float, seed: int) -> None:
        self._chance, self._fair_share = random.Random(seed), FairShare({"quiet": 1.0, "loud": 1.0})
        self._batcher = Batcher[Waits](RowBudget(self.ROWS), 0.0, BatchCost())
        self._queues: dict[str, deque[float]] = {"quiet": deque(), "loud": deque()}
        self._rates = {"quiet": quiet * self.ROWS / self.BATCH_S, "loud": flood * self.ROWS / self.BATCH_S}
        self._arrivals = [(self._chance.expovariate(rate), lane) for lane, rate in self._rates.items() if rate > 0.0]
        heapq.heapify(self._arrivals)
        self.waits_s: list[float] = []

    def run(self, until_s: float) -> None:
        now_s, free_s = 0.0, 0.0
        while now_s < until_s:
            self._arrive(now_s)
            self._read(now_s)
            if free_s <= now_s and self._batcher.rows:
                free_s = self._start(now_s)
                continue  # there is room now
            # An idle consumer is woken by the first request; a busy one looks again and again.
            now_s = self._arrivals[0][0] if free_s <= now_s else min(free_s, now_s + self.LOOK_S)

    def _start(self, now_s: float) -> float:
        batch = self._batcher.take_due(now_s)
        assert batch is not None
        end_s = now_s + self.BATCH_S
        self.waits_s += [end_s - one.arrived_s for one in batch.items if one.lane == "quiet"]
        return end_s

    def _arrive(self, now_s: float) -> None:
        while self._arrivals[0][0] <= now_s:
            at_s, lane = heapq.heappop(self._arrivals)
            if len(self._queues[lane]) < 2048:
                self._queues[lane].append(at_s)
            heapq.heappush(self._arrivals, (at_s + self._chance.expovariate(self._rates[lane]), lane))

    def _read(self, now_s: float) -> None:
        counts = {lane: len(queue) for lane, queue in self._queues.items()}
        room = self.ROWS - self._batcher.rows
        if room > 0:
            taken = self._fair_share.share(room, counts, now_s)
        else:
            present = collections.Counter(one.lane for one in self._batcher.waiting())
            taken = self._fair_share.priority_share(self.ROWS, counts, present, now_s)
        for lane, count in taken.items():
            for _ in range(count):
                self._batcher.add(Waits(lane, self._queues[lane].popleft()), priority=room <= 0)


def quiet_lanes_p99_s(quiet: float, flood: float, seed: int) -> float:
    """Return what the requests of the quiet lane wait, which uses ``quiet`` of the capacity."""
    device = Device(quiet, flood, seed)
    device.run(50.0)
    return sorted(device.waits_s)[int(0.99 * len(device.waits_s))]


@pytest.mark.parametrize("seed", first(1, range(3)))
@pytest.mark.parametrize("quiet", [0.05, 0.25, 0.37, 0.45])
def test_a_flood_costs_the_other_lane_one_batch_at_most(quiet: float, seed: int) -> None:
    assert quiet_lanes_p99_s(quiet, 10.0, seed) <= quiet_lanes_p99_s(quiet, 0.0, seed) + Device.BATCH_S

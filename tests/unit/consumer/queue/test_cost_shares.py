"""Lanes pay what their requests cost: tokens where they differ, and what was expected where they do not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Load, RowBudget, TokenBudget
from consumer.pipeline.intake import Intake
from consumer.queue.fair_share import FairShare
from consumer.queue.interface import Entry
from consumer.queue.lane_costs import LaneCosts
from tests.unit.consumer.parts import item

NAMES = st.sampled_from(["a", "b", "c"])
MANY = 100_000


class Device:
    """A consumer whose lanes never run empty, on a clock that does not move unless a test moves it."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._costs = LaneCosts()
        self.fair_share = FairShare(weights, self._costs)
        self.got = dict.fromkeys(weights, 0.0)
        self.now_s = 0.0

    def run(self, room: int, costs: Mapping[str, float], waiting: Mapping[str, int] | None = None) -> dict[str, int]:
        """Take requests and settle at once what they have cost."""
        counts = dict.fromkeys(self.got, MANY) if waiting is None else waiting
        taken = self.fair_share.share(room, counts, self.now_s)
        assert sum(taken.values()) == min(room, sum(counts.values()))
        for lane, count in taken.items():
            expected = self.fair_share.expected(lane)
            for _ in range(count):
                self._costs.charge(lane, costs[lane], expected)
                self.got[lane] += costs[lane]
        return taken


@given(
    st.dictionaries(NAMES, st.tuples(st.floats(0.1, 10.0), st.lists(st.integers(1, 3000), min_size=1, max_size=5))),
    st.integers(1, 8),
)
def test_tokens_are_shared_in_proportion_to_the_weights_whatever_the_requests_are_like(
    lanes: dict[str, tuple[float, list[int]]], room: int
) -> None:
    device = Device({lane: weight for lane, (weight, _) in lanes.items()})
    for turn in range(300):
        device.run(room, {lane: costs[turn % len(costs)] for lane, (_, costs) in lanes.items()})
    # Of what a lane got, all but what one read took is settled, and it may owe one request more than that.
    served = {lane: device.got[lane] / weight for lane, (weight, _) in lanes.items()}
    most = max((max(costs) for _, costs in lanes.values()), default=0)
    bound = 2 * (room + 1) * most * sum(1 / weight for weight, _ in lanes.values())
    assert max(served.values(), default=0) - min(served.values(), default=0) <= bound


def test_a_lane_of_long_requests_gets_no_more_than_one_of_short_ones() -> None:
    device = Device({"long": 1.0, "short": 1.0})
    for _ in range(20_000):
        device.run(1, {"long": 2000, "short": 20})
        device.now_s += 0.2  # so 20 tokens take; ageing must not help the one that pays for a turn of 2,000
    assert device.got["long"] == pytest.approx(device.got["short"], rel=0.05)


def test_a_weight_is_one_of_tokens() -> None:
    device = Device({"long": 1.0, "short": 3.0})
    for _ in range(20_000):
        device.run(2, {"long": 2000, "short": 20})
    assert 3 * device.got["long"] == pytest.approx(device.got["short"], rel=0.05)


@given(st.lists(st.tuples(st.integers(0, 64), st.dictionaries(NAMES, st.integers(0, 500))), max_size=30))
def test_where_each_costs_one_settling_changes_nothing(reads: list[tuple[int, dict[str, int]]]) -> None:
    weights = {"a": 0.3, "b": 1.0, "c": 7.0}
    paying, plain = Device(weights), FairShare(weights)
    for turn, (room, waiting) in enumerate(reads):
        paying.now_s = turn * 0.3
        taken = paying.run(room, dict.fromkeys(weights, 1), waiting)
        assert taken == plain.share(room, waiting, turn * 0.3)
        present = {"a": float(room), **dict.fromkeys(taken, 1.0)}
        ahead = paying.fair_share.priority_share(room, waiting, present, turn * 0.3)
        assert ahead == plain.priority_share(room, waiting, present, turn * 0.3)


def test_a_lane_that_sends_long_requests_one_by_one_pays_for_each() -> None:
    """Between two of them it is silent, and what it owes must not be forgotten."""
    device = Device({"long": 1.0, "short": 1.0})
    for turn in range(20_000):
        device.run(1, {"long": 2000, "short": 20}, {"long": turn % 2, "short": MANY})
    assert device.got["long"] <= device.got["short"] + 2 * 2000


def test_alone_a_lane_makes_no_debts() -> None:
    device = Device({"first": 1.0, "second": 1.0})
    for turn in range(1000):  # each costs more than was expected
        device.run(4, {"first": 10 + turn, "second": 1}, {"first": MANY, "second": 0})
    before = device.got["first"]
    for _ in range(200):
        device.run(1, {"first": 1000, "second": 1000})
    assert device.got["first"] - before == pytest.approx(device.got["second"], abs=3 * 1000)


def test_silence_still_earns_nothing() -> None:
    device = Device({"busy": 1.0, "silent": 1.0})
    for turn in range(1000):  # each costs less than was expected
        device.run(4, {"busy": 2000 - turn, "silent": 1}, {"busy": MANY, "silent": 0})
    before = device.got["busy"]
    for _ in range(200):
        device.run(1, {"busy": 1000, "silent": 1000})
    assert device.got["busy"] - before == pytest.approx(device.got["silent"], abs=3 * 1000)


def test_a_new_lane_is_expected_to_cost_what_others_do() -> None:
    costs = LaneCosts()
    assert costs.usual("new") == 1.0
    costs.charge("a", 100, 1.0)
    costs.charge("b", 300, 1.0)
    assert costs.settle() == {"a": 99.0, "b": 299.0}
    assert (costs.usual("a"), costs.usual("b"), costs.usual("new")) == (100, 300, 200)
    assert costs.settle() == {}


def test_what_its_lane_was_not_charged_for_changes_nothing() -> None:
    costs = LaneCosts()
    costs.charge("a", 100, 0.0)
    assert (costs.settle(), costs.usual("a")) == ({}, 1.0)


def test_a_model_that_counts_nothing_does_not_stop_the_lanes() -> None:
    costs = LaneCosts()
    costs.charge("a", 2, 1.0)
    costs.charge("a", 0, 2.0)
    costs.settle()
    assert costs.usual("a") > 0


def test_who_has_fewer_tokens_in_a_full_batch_goes_ahead() -> None:
    device = Device({"long": 1.0, "short": 1.0})
    for _ in range(3):
        device.run(2, {"long": 500, "short": 20})
    ahead = device.fair_share.priority_share(1000, {"long": 9, "short": 90}, {"long": 1000.0}, 0.0)
    assert ahead == {"short": 50}  # as many as 1,000 tokens hold
    assert device.fair_share.priority_share(1000, {"short": 90}, {"long": 500.0, "short": 500.0}, 0.0) == {}
    assert device.fair_share.priority_share(0, {"short": 90}, {"long": 1.0}, 0.0) == {}


def charged(cost: float) -> Entry:
    return Entry(b"1-0", 1, None, 1, "gold", cost)


def test_a_consumer_says_what_texts_cost_once_their_tokens_are_known() -> None:
    said: list[tuple[str, float]] = []
    intake = Intake(
        Batcher(TokenBudget(1000, 8), 0.0, BatchCost()), lambda entry, cost: said.append((entry.lane, cost))
    )
    text, free = item("text"), item("free")
    text.entry, text.load = charged(50.0), Load(1, 300, 300)
    intake.add([text, free])
    intake.begin_decoding(1, "gold")
    assert said == [("gold", 300)]
    held = intake.lanes()
    assert (held["gold"] > 300, held["default"], intake.most) == (True, 125.0, 1000)  # an eighth of the rows


def test_a_consumer_says_how_many_rows_a_request_had() -> None:
    said: list[float] = []
    intake = Intake(Batcher(RowBudget(8), 0.0, BatchCost()), lambda entry, cost: said.append(cost))
    tensors = item("tensors", rows=4)
    tensors.entry = charged(1.0)
    intake.add([tensors])
    assert (said, intake.lanes()) == ([4], {"gold": 4})

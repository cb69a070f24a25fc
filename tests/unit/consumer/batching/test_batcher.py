"""The batcher: examples a reader can follow, then rules that hold for anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batch, Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.load import ONE, Budget, Load, RowBudget, TokenBudget

NEVER_S = float("inf")


@dataclass(frozen=True)
class Thing:
    name: int
    arrived_s: float = 0.0
    load: Load = ONE
    deadline_s: float = NEVER_S


def rows(count: int) -> Load:
    """A request of so many rows, each of them a unit."""
    return Load(count, count, 1)


def always(run_s: float) -> BatchCost:
    """A batch takes this long, however many rows it has."""
    return BatchCost((rows, run_s) for rows in (1, 32))


class Padded:
    """A budget that counts what a batch takes when each row is as long as the longest one."""

    by_length = False

    def __init__(self, most: int) -> None:
        self.most_rows = self.most = self.room = most

    def used(self, rows: int, units: int, longest: int) -> int:
        """Return the units, padding included."""
        return rows * longest

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether so much may share a batch."""
        return rows * longest <= self.most

    def part(self, share: float) -> Padded:
        """Return a share of it."""
        return Padded(max(1, round(share * self.most)))


def filled(
    budget: Budget | int, window_s: float, *things: Thing, cost: BatchCost | None = None, adaptive: bool = False
) -> Batcher[Thing]:
    cost = cost or BatchCost()
    budget = RowBudget(budget) if isinstance(budget, int) else budget
    batcher: Batcher[Thing] = Batcher(budget, window_s, cost, Adaptive(cost, window_s) if adaptive else None)
    for thing in things:
        batcher.add(thing)
    return batcher


def used(budget: Budget, things: Sequence[Thing]) -> float:
    rows, units, longest = zip(*(thing.load for thing in things), strict=True) if things else ((), (), ())
    return budget.used(sum(rows), sum(units), max(longest, default=0))


def taken(batch: Batch[Thing] | None) -> list[int] | None:
    return None if batch is None else [thing.name for thing in batch.items]


def test_nothing_waits_for_nothing() -> None:
    batcher = filled(4, 1.0)
    assert batcher.due_s(0.0) is None
    assert batcher.take_due(1e9) is None


def test_a_lone_item_waits_for_its_window() -> None:
    batcher = filled(4, 1.0, Thing(1, arrived_s=10.0))
    assert batcher.due_s(10.0) == 11.0
    assert batcher.take_due(10.999) is None
    batch = batcher.take_due(11.0)
    assert batch is not None
    assert (taken(batch), batch.reason) == ([1], CloseReason.WINDOW)
    assert batcher.rows == 0


def test_the_window_opens_at_the_first_item() -> None:
    batcher = filled(4, 1.0, Thing(1, 10.0), Thing(2, 10.9))
    assert taken(batcher.take_due(11.0)) == [1, 2]


def test_the_window_opens_at_the_earliest_arrival_even_if_it_came_last_from_its_decoder() -> None:
    batcher = filled(4, 1.0, Thing(1, 10.5), Thing(2, 10.0))
    assert batcher.due_s(10.0) == 11.0


def test_a_full_batch_is_due_at_once() -> None:
    batcher = filled(2, 1.0, Thing(1, 10.0), Thing(2, 10.0), Thing(3, 10.0))
    batch = batcher.take_due(10.0)
    assert batch is not None
    assert (taken(batch), batch.reason) == ([1, 2], CloseReason.FULL)
    assert batcher.take_due(10.0) is None
    assert taken(batcher.take_due(11.0)) == [3]


def test_a_window_of_zero_takes_what_is_there() -> None:
    assert taken(filled(4, 0.0, Thing(1, 10.0), Thing(2, 10.0)).take_due(10.0)) == [1, 2]


def test_rows_count_not_items() -> None:
    batcher = filled(4, 1.0, Thing(1, load=rows(3)), Thing(2, load=rows(2)))
    assert batcher.rows == 5
    assert taken(batcher.take_due(0.0)) == [1]
    assert taken(batcher.take_due(1.0)) == [2]


def test_an_item_with_too_many_rows_rides_alone() -> None:
    batcher = filled(4, 1.0, Thing(1, load=rows(9)), Thing(2))
    assert taken(batcher.take_due(0.0)) == [1]
    assert taken(batcher.take_due(1.0)) == [2]


def test_a_budget_may_count_what_padding_costs() -> None:
    batcher = filled(Padded(8), 1.0, Thing(1, load=Load(1, 3, 3)), Thing(2, load=Load(1, 4, 4)), Thing(3))
    assert batcher.used == 12
    assert taken(batcher.take_due(0.0)) == [1, 2]
    assert batcher.used == 1


def test_the_time_of_a_batch_is_that_of_its_units() -> None:
    cost = BatchCost((units, 0.1 * units) for units in (1, 32))
    batcher = filled(4, 1.0, Thing(1, load=Load(1, 6, 6), deadline_s=0.8), cost=cost)
    assert batcher.due_s(0.0) == pytest.approx(0.2)


def test_expired_items_are_set_aside_and_take_no_room() -> None:
    dead = [Thing(number, deadline_s=5.0) for number in (1, 3)]
    batcher = filled(2, 1.0, dead[0], Thing(2), dead[1], Thing(4))
    batch = batcher.take_due(5.0)
    assert batch is not None
    assert taken(batch) == [2, 4]
    assert list(batch.expired) == dead


def test_a_batch_of_expired_items_only_is_handed_out_empty() -> None:
    batch = filled(2, 1.0, Thing(1, deadline_s=0.5)).take_due(1.0)
    assert batch is not None
    assert (list(batch.items), len(batch.expired)) == ([], 1)


def test_a_batch_closes_early_for_a_deadline() -> None:
    batcher = filled(4, 1.0, Thing(1, deadline_s=0.8), cost=always(0.3))
    assert batcher.due_s(0.0) == pytest.approx(0.5)
    batch = batcher.take_due(0.500001)
    assert batch is not None
    assert batch.reason is CloseReason.DEADLINE


def test_draining_hands_out_everything_at_once() -> None:
    batcher = filled(2, 60.0, Thing(1), Thing(2), Thing(3))
    batcher.drain()
    batches = [batcher.take_due(0.0), batcher.take_due(0.0), batcher.take_due(0.0)]
    assert [taken(batch) for batch in batches] == [[1, 2], [3], None]
    assert batches[0] is not None
    assert batches[0].reason is CloseReason.DRAIN


@pytest.mark.parametrize(("max_rows", "window_s"), [(0, 1.0), (-1, 1.0), (1, -0.1)])
def test_impossible_limits_are_refused(max_rows: int, window_s: float) -> None:
    with pytest.raises(ValueError, match=str(max_rows)):
        Batcher(RowBudget(max_rows), window_s, BatchCost())


times = st.floats(0, 10).map(lambda value: round(value, 2))
loads = st.builds(lambda count, length: Load(count, count * length, length), st.integers(1, 6), st.integers(1, 4))
budgets = st.one_of(
    st.builds(RowBudget, st.integers(1, 8)),
    st.builds(Padded, st.integers(1, 30)),
    st.builds(TokenBudget, st.integers(1, 30), st.integers(1, 8)),
)
things = st.lists(st.builds(Thing, st.just(0), times, loads, st.one_of(st.just(NEVER_S), times)), max_size=25).map(
    lambda many: [Thing(number, one.arrived_s, one.load, one.deadline_s) for number, one in enumerate(many)]
)


@given(things, budgets, st.floats(0, 5), st.floats(0, 2), st.lists(times, max_size=30).map(sorted), st.booleans())
def test_the_rules_hold_for_anything(
    waiting: list[Thing], budget: Budget, window_s: float, run_s: float, moments: list[float], adaptive: bool
) -> None:
    batcher = filled(budget, window_s, *waiting, cost=always(run_s), adaptive=adaptive)
    seen: list[Thing] = []
    for now_s in [*moments, 100.0, 100.0]:
        while True:
            batch = batcher.take_due(now_s)
            if batch is None:
                due_s = batcher.due_s(now_s)
                assert due_s is None or due_s > now_s
                break
            assert batch.items or batch.expired
            assert used(budget, batch.items) <= budget.most or len(batch.items) == 1
            assert all(thing.deadline_s > now_s for thing in batch.items)
            assert all(thing.deadline_s <= now_s for thing in batch.expired)
            for part in (batch.items, batch.expired):
                assert all(one.name < other.name for one, other in pairwise(part))
            seen += [*batch.items, *batch.expired]
        left = [thing for thing in waiting if thing not in seen]
        assert batcher.rows == sum(thing.load.rows for thing in left)
        assert batcher.used == used(budget, left)
        assert all(thing.arrived_s + window_s > now_s for thing in left)
    assert sorted(thing.name for thing in seen) == list(range(len(waiting)))
    assert batcher.due_s(100.0) is None


@given(things, budgets, st.floats(0, 5))
def test_batches_keep_the_order_of_arrival(waiting: list[Thing], budget: Budget, window_s: float) -> None:
    lasting = [thing for thing in waiting if thing.deadline_s == NEVER_S]
    batcher = filled(budget, window_s, *lasting)
    order: list[int] = []
    while (batch := batcher.take_due(100.0)) is not None:
        order += [thing.name for thing in batch.items]
    assert order == [thing.name for thing in lasting]


def test_an_idle_device_takes_what_is_there() -> None:
    batcher = filled(4, 1.0, Thing(1, 10.0), Thing(2, 10.0), cost=always(8.0), adaptive=True)
    assert batcher.due_s(10.0) == -NEVER_S
    batch = batcher.take_due(10.0)
    assert batch is not None
    assert (taken(batch), batch.reason) == ([1, 2], CloseReason.IDLE)


@given(things, st.integers(1, 8), st.floats(0, 5))
def test_draining_leaves_nothing(waiting: list[Thing], max_rows: int, window_s: float) -> None:
    batcher = filled(max_rows, window_s, *waiting)
    batcher.drain()
    count = 0
    while (batch := batcher.take_due(0.0)) is not None:
        assert batch.reason is CloseReason.DRAIN
        count += len(batch.items) + len(batch.expired)
    assert count == len(waiting)

"""What runs next: ordinary requests first, the rest in the gaps, urgent ones in turns."""

from __future__ import annotations

import pytest

from consumer.batching.batcher import CloseReason
from consumer.batching.load import Load, PaddedTokenBudget, RowBudget, TokenBudget
from tests.unit.consumer.gaps.tasks import CPU, GPU, Device, Thing, rows, things


def test_ordinary_requests_go_first_whatever_came_first() -> None:
    device = Device()
    device.postpone(*things("b", 3))
    device.add(*things("a", 2))
    assert device.names() == ["a0", "a1"]
    batch = device.gaps.take_due(0.0)
    assert batch is not None
    assert ([item.name for item in batch.items], batch.reason) == (["b0", "b1", "b2"], CloseReason.GAP)
    assert device.gaps.take_due(0.0) is None


@pytest.mark.parametrize(("cost", "size"), [(CPU, 7), (GPU, 32), ((0.005, 0.0), 1), ((0.0, 0.008), 32)])
def test_a_batch_of_batch_lanes_is_as_large_as_pays(cost: tuple[float, float], size: int) -> None:
    """95% of the best throughput: n / (a n + b) against that of 32 rows."""
    device = Device(cost)
    device.postpone(*things("b", 64))
    assert len(device.names()) == size


def test_what_runs_for_no_time_is_not_made_smaller() -> None:
    device = Device((0.00001, 0.0))
    device.postpone(*things("b", 64))
    assert len(device.names()) == 32


def test_a_device_whose_batches_cost_nearly_the_same_fills_ordinary_ones_up() -> None:
    device = Device(GPU)
    device.add(*things("a", 10))
    device.postpone(*things("b", 64))
    batch = device.gaps.take_due(0.0)
    assert batch is not None
    assert (len(batch.items), batch.topped_up, batch.reason) == (32, 22, CloseReason.WINDOW)
    assert [item.name[0] for item in batch.items] == ["a"] * 10 + ["b"] * 22


def test_one_whose_rows_are_dear_takes_along_only_what_padding_would_compute() -> None:
    device = Device(CPU)
    device.add(*things("a", 3))
    device.postpone(*things("b", 8))
    assert len(device.names()) == 3
    padded = Device(CPU, bucket=4)
    padded.add(*things("a", 3))
    padded.postpone(Thing("large", load=rows(2)), *things("b", 8))
    assert padded.names() == ["a0", "a1", "a2", "b0"]


def test_a_quick_batch_takes_nothing_along() -> None:
    device = Device((0.0000001, 0.00001))
    device.add(Thing("a"))
    device.postpone(*things("b", 8))
    assert device.names() == ["a"]


def test_a_full_batch_takes_nothing_along() -> None:
    device = Device(GPU)
    device.add(*things("a", 32))
    device.postpone(Thing("b"))
    assert len(device.names()) == 32


def test_a_batch_that_waits_for_company_is_disturbed_only_by_what_is_over_before() -> None:
    device = Device(CPU, window_s=0.02)
    device.add(Thing("a"))
    device.postpone(*things("b", 8))
    assert device.names(0.0) == ["b0", "b1", "b2"]  # 17 ms
    assert device.names(0.017) == []
    assert device.gaps.take_due(0.02) is not None


def test_an_urgent_request_takes_turns_with_the_others() -> None:
    device = Device()
    device.add(*things("a", 70))
    device.postpone(*things("b", 3), *things("u", 9, is_urgent=True))
    first_s = device.cost.run_s(7)
    order = [device.names(now_s) for now_s in (0.0, first_s, 4.9 * first_s, 5.0 * first_s, 9.0 * first_s)]
    assert [batch[0][0] for batch in order] == ["u", "a", "a", "u", "a"]  # a fifth of the time is for what is urgent
    assert order[0] == [f"u{number}" for number in range(7)]
    assert order[3][:2] == ["u7", "u8"]


def test_a_near_deadline_makes_a_request_urgent() -> None:
    device = Device()
    device.add(*things("a", 70))
    device.postpone(Thing("b", deadline_s=100.0))
    assert device.names(0.0)[0] == "a0"
    batch = device.gaps.take_due(99.5)
    assert batch is not None
    assert ([item.name for item in batch.items], batch.reason) == (["b"], CloseReason.URGENT)


def test_what_has_expired_is_handed_out_as_that() -> None:
    device = Device()
    device.postpone(Thing("late", deadline_s=1.0), Thing("b"))
    batch = device.gaps.take_due(2.0)
    assert batch is not None
    assert ([item.name for item in batch.items], [item.name for item in batch.expired]) == (["b"], ["late"])


def test_an_item_larger_than_a_batch_comes_alone_and_says_the_size_of_its_parts() -> None:
    device = Device()
    device.postpone(Thing("large", load=rows(30)), *things("b", 2))
    batch = device.gaps.take_due(0.0)
    assert batch is not None
    assert ([item.name for item in batch.items], batch.most_units) == (["large"], 7)


def test_token_budgets_are_shared_out_in_tokens() -> None:
    device = Device((0.0001, 0.002), TokenBudget(1000, 64))
    device.postpone(*things("b", 50, load=Load(1, 40, 40)))
    batch = device.gaps.take_due(0.0)
    assert batch is not None
    assert 200 < sum(item.load.units for item in batch.items) <= 400  # 0.95 b / (0.05 a n + b) of 1000


def test_a_padded_batch_takes_along_no_longer_text() -> None:
    device = Device((0.000001, 0.008), PaddedTokenBudget(1000, 64))
    device.add(Thing("a", load=Load(1, 20, 20)))
    device.postpone(Thing("long", load=Load(1, 90, 90)), Thing("short", load=Load(1, 18, 18)))
    assert device.names() == ["a", "short"]
    assert device.names() == ["long"]


def test_a_padded_batch_of_batch_lanes_is_of_neighbours() -> None:
    device = Device((0.000001, 0.008), PaddedTokenBudget(100, 64))
    device.postpone(
        Thing("a", load=Load(1, 10, 10)), Thing("b", load=Load(1, 90, 90)), Thing("c", load=Load(1, 11, 11))
    )
    assert device.names() == ["a", "c"]


def test_while_draining_everything_is_handed_out() -> None:
    device = Device(window_s=1.0)
    device.add(Thing("a"))
    device.postpone(*things("b", 9))
    device.now.drain()
    assert [len(device.names()) for _ in range(4)] == [1, 7, 2, 0]


def test_a_budget_knows_its_parts() -> None:
    assert RowBudget(32).part(0.2).most == 7
    assert RowBudget(32).part(2.0).most == 32
    assert RowBudget(32).part(0.0).most == 1
    part = PaddedTokenBudget(1000, 64).part(0.1)
    assert (type(part), part.most, part.most_rows) == (PaddedTokenBudget, 100, 7)

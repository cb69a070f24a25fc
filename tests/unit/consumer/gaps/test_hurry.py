"""What waits of a batch lane in which something is urgent: it takes turns with ordinary requests."""

from __future__ import annotations

from consumer.batching.backlog import Backlog
from consumer.batching.batcher import Batcher
from consumer.batching.gaps import Gaps
from consumer.batching.load import RowBudget
from consumer.batching.slot_gaps import SlotGaps
from tests.unit.consumer.gaps.tasks import CPU, Thing, cost_of, things


def test_nothing_waits_while_something_behind_it_is_urgent() -> None:
    hurries, cost, budget = [False], cost_of(*CPU), RowBudget(4)
    now: Batcher[Thing] = Batcher(budget, 0.0, cost)
    later: Backlog[Thing] = Backlog(budget, lambda: hurries[0])
    gaps = Gaps(now, later, cost)
    for item in things("now", 12):
        now.add(item)
    for item in things("later", 6):
        later.add(item)

    def next_kind(now_s: float) -> str:
        batch = gaps.take_due(now_s)
        assert batch is not None
        return batch.items[0].name[:-1].rstrip("0123456789")

    assert next_kind(0.0) == "now"
    hurries[0] = True
    assert [next_kind(now_s) for now_s in (0.1, 0.2, 0.3, 0.4)] == ["later", "now", "later", "now"]


def test_an_empty_backlog_is_in_no_hurry() -> None:
    later: Backlog[Thing] = Backlog(RowBudget(4), lambda: True)
    assert not later.has_urgent(0.0)


def test_generations_in_a_hurry_still_leave_a_slot() -> None:
    later: Backlog[Thing] = Backlog(RowBudget(2), lambda: True)
    now: Batcher[Thing] = Batcher(RowBudget(4), 0.0, cost_of(*CPU))
    slots = SlotGaps(now, later, lambda: 0)
    for item in things("later", 3):
        later.add(item)
    batch = slots.take_due(0.0)
    assert batch is not None
    assert [one.name for one in batch.items] == ["later0", "later1"]

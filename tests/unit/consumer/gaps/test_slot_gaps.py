"""Generations of a batch lane begin where no ordinary one waits, and leave a slot free."""

from __future__ import annotations

from consumer.batching.backlog import Backlog
from consumer.batching.batcher import Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.slot_gaps import SlotGaps
from consumer.pipeline.generating.budget import SlotBudget
from tests.unit.consumer.gaps.tasks import Thing, things


class Engine:
    """Slots as the executor tells them."""

    def __init__(self, slots: int) -> None:
        self.budget, self.later_budget = SlotBudget(slots), SlotBudget(slots)
        self.now: Batcher[Thing] = Batcher(self.budget, 0.0, BatchCost())
        self.later: Backlog[Thing] = Backlog(self.later_budget)
        self.preparing = 0
        self.gaps = SlotGaps(self.now, self.later, lambda: self.preparing)
        self.free(slots)

    def free(self, slots: int) -> None:
        self.budget.most, self.later_budget.most = slots, max(0, slots - 1)

    def names(self) -> list[str]:
        batch = self.gaps.take_due(0.0)
        return [] if batch is None else [item.name for item in batch.items]


def test_ordinary_ones_begin_first_and_a_slot_stays_free() -> None:
    engine = Engine(4)
    for thing in things("b", 6):
        engine.later.add(thing)
    engine.now.add(Thing("a"))
    assert engine.names() == ["a"]
    engine.free(3)
    assert engine.names() == ["b0", "b1"]
    engine.free(1)
    assert engine.names() == []


def test_those_being_made_ready_count() -> None:
    engine = Engine(4)
    for thing in things("b", 6):
        engine.later.add(thing)
    engine.preparing = 2
    assert engine.names() == ["b0"]


def test_urgent_ones_begin_first_of_theirs() -> None:
    engine = Engine(2)
    engine.later.add(Thing("b"))
    engine.later.add(Thing("u", is_urgent=True))
    batch = engine.gaps.take_due(0.0)
    assert batch is not None
    assert ([item.name for item in batch.items], batch.reason) == (["u"], CloseReason.URGENT)

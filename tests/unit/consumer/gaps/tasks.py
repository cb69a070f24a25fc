"""Requests for the tests of what runs in the gaps."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.batching.backlog import Backlog
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.gaps import Gaps
from consumer.batching.load import ONE, Budget, Load, RowBudget

FOREVER_S = 1e9


@dataclass
class Thing:
    """A request of either kind."""

    name: str
    load: Load = ONE
    deadline_s: float = FOREVER_S
    is_urgent: bool = False
    arrived_s: float = 0.0


def rows(count: int) -> Load:
    """The load of so many rows."""
    return Load(count, count, 1)


def things(prefix: str, count: int, **more: object) -> list[Thing]:
    """Several alike."""
    return [Thing(f"{prefix}{number}", **more) for number in range(count)]  # type: ignore[arg-type]


def cost_of(per_row_s: float, fixed_s: float) -> BatchCost:
    """What batches cost, known exactly."""
    return BatchCost((count, per_row_s * count + fixed_s) for count in (1, 2, 4, 8, 16, 32))


CPU = 0.005, 0.002
GPU = 0.0001, 0.008


class Device:
    """A consumer's batcher and backlog with what chooses between them."""

    def __init__(
        self,
        cost: tuple[float, float] = CPU,
        budget: Budget | None = None,
        window_s: float = 0.0,
        bucket: int = 1,
    ) -> None:
        self.cost = cost_of(*cost)
        budget = budget or RowBudget(32)
        self.now: Batcher[Thing] = Batcher(budget, window_s, self.cost)
        self.later: Backlog[Thing] = Backlog(budget)
        self.gaps = Gaps(self.now, self.later, self.cost, lambda count: -(-count // bucket) * bucket)

    def add(self, *items: Thing) -> None:
        """Add ordinary requests."""
        for item in items:
            self.now.add(item)

    def postpone(self, *items: Thing) -> None:
        """Add requests of a batch lane."""
        for item in items:
            self.later.add(item)

    def names(self, now_s: float = 0.0) -> list[str]:
        """The names in the next batch; empty for none."""
        batch = self.gaps.take_due(now_s)
        return [] if batch is None else [item.name for item in batch.items]

"""Which generations begin next where some lanes are of kind ``batch``. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .backlog import Backlog, Postponable
from .batcher import Batch, Batcher, CloseReason
from .load import RowBudget

NEAR_S = 2.0
"""A request is urgent by itself when its deadline is nearer."""

T = TypeVar("T", bound=Postponable)


class SlotGaps(Generic[T]):
    """Lets one of a ``batch`` lane begin only where no ordinary one waits, and a slot stays free behind it.

    A generation cannot be put off once it runs, so the free slot is for the ordinary one that comes next.

    Args:
        now: ordinary requests.
        later: those of ``batch`` lanes; its budget says how many may begin.
        preparing: how many ordinary ones are being made ready, each for a slot.
    """

    def __init__(self, now: Batcher[T], later: Backlog[T], preparing: Callable[[], int]) -> None:
        self._now, self._later, self._preparing = now, later, preparing

    def take_due(self, now_s: float) -> Batch[T] | None:
        """Take what begins next."""
        batch = self._now.take_due(now_s)
        left = int(self._later.budget.most) - self._preparing()
        if batch is not None or not self._later.rows or left < 1:
            return batch
        until_s = now_s + NEAR_S
        reason = CloseReason.URGENT if self._later.has_urgent(until_s) else CloseReason.GAP
        cut = self._later.take(RowBudget(left), now_s, until_s)
        return Batch(cut.items, cut.expired, reason)

    def take_ordinary(self, now_s: float) -> Batch[T] | None:
        """Take ordinary requests that begin next."""
        return self._now.take_due(now_s)

    def gives_way(self, now_s: float) -> bool:
        """Say whether ordinary requests go first: what was taken over begins as it always does."""
        return False

    def took_turn(self) -> None:
        """Note that something of ``batch`` lanes runs that was not taken here."""

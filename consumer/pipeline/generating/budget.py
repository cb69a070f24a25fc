"""How many generations may be claimed: as many as could start now. Pure."""

from __future__ import annotations


class SlotBudget:
    """See :class:`consumer.batching.load.Budget`: a row is a sequence, and there is room for those with a free slot.

    What waits in the queue is seen there, may be cancelled, and is free for other consumers; so nothing is claimed
    that could not start.

    Attributes:
        most: free slots, as the executor says.
    """

    __slots__ = ("most", "most_rows")
    by_length = False

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"an engine must have at least 1 slot, not {slots}")
        self.most_rows = slots
        self.most: float = slots

    def used(self, rows: int, units: int, longest: int) -> float:
        """Return the sequences."""
        return rows

    @property
    def room(self) -> float:
        """Return the free slots: none waits behind another."""
        return self.most

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether there are slots for so many."""
        return rows <= self.most

    def part(self, share: float) -> SlotBudget:
        """See :class:`consumer.batching.load.Budget`; slots are not shared out."""
        return self

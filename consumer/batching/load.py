"""What requests ask of the device, and how much of it one batch may hold. Pure."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Load(NamedTuple):
    """What one request asks of the device.

    Attributes:
        rows: rows that it adds to a batch; at least 1.
        units: what the time of a batch is linear in, over all of them: rows, tokens, pixels; at least 1 for each row.
        longest: units of the largest row.
    """

    rows: int
    units: int
    longest: int


ONE = Load(1, 1, 1)
"""A single row, where a row is a unit."""


class Batchable(Protocol):
    """What the batcher looks at in an item."""

    @property
    def load(self) -> Load:
        """What it adds to a batch."""

    @property
    def arrived_s(self) -> float:
        """When it reached this consumer."""

    @property
    def deadline_s(self) -> float:
        """After this time no inference may start for it."""


class Budget(Protocol):
    """How much one batch may hold. A request that is larger rides alone."""

    @property
    def most_rows(self) -> int:
        """Most rows of a batch, whatever they cost; at least 1."""

    @property
    def most(self) -> float:
        """What a batch may hold, in a measure of the budget's own such as rows or padded tokens."""

    def used(self, rows: int, units: int, longest: int) -> float:
        """Return how much of ``most`` so much takes: 0 for nothing, never less for more.

        The parts of a :class:`Load` instead of one: the batcher asks for each request, and makes no object for that.
        """


class RowBudget:
    """At most so many rows, whatever they cost."""

    __slots__ = ("most", "most_rows")

    def __init__(self, most_rows: int) -> None:
        if most_rows < 1:
            raise ValueError(f"a batch must hold at least 1 row, not {most_rows}")
        self.most_rows = self.most = most_rows

    def used(self, rows: int, units: int, longest: int) -> int:
        """Return the rows."""
        return rows

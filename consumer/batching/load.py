"""What requests ask of the device, and how much of it one batch may hold. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

CHOICE = 4
"""Batches that wait where a batch is chosen by length. Sorting 128 texts instead of 64 saves a fifth of the time."""


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
    def by_length(self) -> bool:
        """Whether a batch is the oldest request and those nearest to it in length, instead of the oldest ones."""

    @property
    def most_rows(self) -> int:
        """Most rows of a batch, whatever they cost; at least 1."""

    @property
    def most(self) -> float:
        """What a batch may hold, in a measure of the budget's own such as rows or padded tokens."""

    @property
    def room(self) -> float:
        """What may wait while a batch runs, in the same measure; at least ``most``."""

    def used(self, rows: int, units: int, longest: int) -> float:
        """Return how much of ``most`` so much takes: 0 for nothing, never less for more.

        The parts of a :class:`Load` instead of one: the batcher asks for each request, and makes no object for that.
        """

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether so much fits into one batch."""

    def part(self, share: float) -> Budget:
        """Return the budget of a batch that holds so large a share of this one; at least a row."""


class RowBudget:
    """At most so many rows, whatever they cost."""

    __slots__ = ("most", "most_rows", "room")
    by_length = False

    def __init__(self, most_rows: int) -> None:
        if most_rows < 1:
            raise ValueError(f"a batch must hold at least 1 row, not {most_rows}")
        self.most_rows = self.most = self.room = most_rows

    def used(self, rows: int, units: int, longest: int) -> int:
        """Return the rows."""
        return rows

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether there are few enough rows."""
        return rows <= self.most

    def part(self, share: float) -> RowBudget:
        """See :class:`Budget`."""
        return RowBudget(min(self.most_rows, max(1, math.ceil(share * self.most_rows))))


class TokenBudget:
    """At most so many tokens, and at most so many rows: for models whose run time grows with the tokens.

    A text of a thousand tokens costs as much as a hundred of ten, so a batch counted in rows takes any time at all. The
    measure is tokens; a batch with as many rows as it may have counts as full, however short they are.

    Args:
        most_tokens: of one batch.
        most_rows: of one batch.
    """

    __slots__ = ("most", "most_rows", "room")
    by_length = False

    def __init__(self, most_tokens: int, most_rows: int) -> None:
        if most_tokens < 1 or most_rows < 1:
            raise ValueError(f"a batch must hold at least 1 token and 1 row, not {most_tokens} and {most_rows}")
        self.most_rows, self.most = most_rows, most_tokens
        self.room = most_tokens

    def used(self, rows: int, units: int, longest: int) -> float:
        """Return the tokens, or the share of the rows in tokens where that is more."""
        share = rows * self.most / self.most_rows  # multiplied first, so that the last row makes it exactly full
        return units if units > share else share

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether there are few enough tokens and rows."""
        return units <= self.most and rows <= self.most_rows

    def part(self, share: float) -> TokenBudget:
        """See :class:`Budget`; a batch of short texts has its share of the rows."""
        tokens, rows = max(1, math.ceil(share * self.most)), max(1, math.ceil(share * self.most_rows))
        return type(self)(min(self.most, tokens), min(self.most_rows, rows))


class PaddedTokenBudget(TokenBudget):
    """At most so many tokens, where each row of a batch is computed as if it were as long as the longest one.

    So that little is computed for nothing, a batch is the oldest request and its neighbours in length: the oldest one
    is in every batch, so none waits for ever. Several batches may wait here, to have something to choose from; what
    waits is counted without padding, since it is not known yet who will share a batch.
    """

    __slots__ = ()
    by_length = True

    def __init__(self, most_tokens: int, most_rows: int) -> None:
        super().__init__(most_tokens, most_rows)
        self.room = CHOICE * self.most

    def fits(self, rows: int, units: int, longest: int) -> bool:
        """Say whether the rows are few enough, and the tokens too once all rows are as long as the longest."""
        return rows * longest <= self.most and rows <= self.most_rows

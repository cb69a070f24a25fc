"""What waits here of lanes of kind ``batch``: urgent requests first, the others in the order of arrival. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from .by_arrival import cut_by_arrival
from .by_length import cut_by_length
from .cut import Cut
from .load import Batchable, Budget, Load

LOOKED_AT = 32
"""Requests that are looked at for topping a batch up; others wait for a batch of their own."""


class Postponable(Batchable, Protocol):
    """A request of a ``batch`` lane."""

    @property
    def is_urgent(self) -> bool:
        """Whether its sender says that it may wait no longer."""


T = TypeVar("T", bound=Postponable)


class Backlog(Generic[T]):
    """Holds them until there is time for them.

    Args:
        budget: of a full batch; what may wait here is bounded by its ``room``.
        hurries: says that nothing here may wait any longer, since something urgent is behind it in its lane.

    Attributes:
        rows: rows waiting.
        used: how much of the budget all of them take.
    """

    def __init__(self, budget: Budget, hurries: Callable[[], bool] = lambda: False) -> None:
        self.budget, self._hurries = budget, hurries
        self._items: deque[T] = deque()
        self._ahead = 0
        self._urgent = 0
        self._count_anew()

    def _count_anew(self) -> None:
        self.rows = self._units = self._longest = self._urgent = 0
        self._first_deadline_s = float("inf")
        self.used = 0.0
        for item in self._items:
            self._count(item)

    def _count(self, item: T) -> None:
        rows, units, longest = item.load
        self.rows, self._units, self._longest = self.rows + rows, self._units + units, max(self._longest, longest)
        self.used = self.budget.used(self.rows, self._units, self._longest)
        self._urgent += item.is_urgent
        self._first_deadline_s = min(self._first_deadline_s, item.deadline_s)

    @property
    def full_units(self) -> float:
        """Units of a full batch of requests like these; 0 while there are none."""
        return self._units * self.budget.most / self.used if self.used else 0.0

    def waiting(self) -> Sequence[T]:
        """Return what waits, in the order of arrival."""
        return list(self._items)

    def add(self, item: T, *, priority: bool = False) -> None:
        """Append an item, or put it ahead of all but those that were put ahead before."""
        if priority:
            self._items.insert(self._ahead, item)
            self._ahead += 1
        else:
            self._items.append(item)
        self._count(item)

    def ready(self, now_s: float) -> None:
        """Note that what was added can run; as it waits for nothing but time, there is nothing to note."""

    def has_urgent(self, until_s: float) -> bool:
        """Say whether one may wait no longer: it is said to be urgent, it is before such a one in its lane, or its
        deadline comes before ``until_s``.
        """
        return self._urgent > 0 or self._first_deadline_s <= until_s or (self.rows > 0 and self._hurries())

    def next_load(self, until_s: float) -> Load:
        """Return the load of the one that is served next; there must be one."""
        return self._ordered(until_s)[0].load

    def take(self, budget: Budget, now_s: float, until_s: float) -> Cut[T]:
        """Take one batch, of what is urgent first.

        Args:
            budget: how much it holds: part of that of a full batch. An item that is larger comes alone.
            now_s: what has a deadline until then has expired.
            until_s: what has one until then is urgent.
        """
        ordered = self._ordered(until_s)
        if budget.by_length:
            cut: Cut[T] = cut_by_length(ordered, 0, budget, now_s)
        else:
            cut = cut_by_arrival(ordered, 0, budget, False, now_s)
        self._keep(cut.left)
        return cut

    def take_beside(
        self, rows: int, units: int, longest: int, free_rows: int, spare_units: float, now_s: float, until_s: float
    ) -> Sequence[T]:
        """Take what a batch of others can carry along.

        Args:
            rows, units, longest: of that batch.
            free_rows: rows that it computes for nothing otherwise.
            spare_units: units that may be added besides.
        """
        taken: list[T] = []
        for item in islice(self._ordered(until_s), LOOKED_AT):
            load = item.load
            cost = load.rows * max(load.longest, longest) if self.budget.by_length else load.units
            is_free = load.rows <= free_rows
            after = rows + load.rows, units + load.units, max(longest, load.longest)
            if item.deadline_s <= now_s or not (is_free or cost <= spare_units) or not self._fits(*after):
                continue
            if self.budget.by_length and load.longest > longest:
                continue  # all the others would become longer
            rows, units, longest = after
            free_rows, spare_units = (free_rows - load.rows, spare_units) if is_free else (0, spare_units - cost)
            taken.append(item)
        if taken:
            gone = {id(item) for item in taken}
            self._keep([item for item in self._items if id(item) not in gone])
        return taken

    def _fits(self, rows: int, units: int, longest: int) -> bool:
        budget = self.budget
        return budget.used(rows, units, longest) <= budget.most and budget.fits(rows, units, longest)

    def _ordered(self, until_s: float) -> deque[T]:
        if not self.has_urgent(until_s):
            return self._items

        def turn(item: T) -> tuple[bool, float]:
            is_urgent = item.is_urgent or item.deadline_s <= until_s
            return not is_urgent, item.deadline_s if is_urgent else 0.0

        return deque(sorted(self._items, key=turn))

    def _keep(self, left: Iterable[T]) -> None:
        before = len(self._items)
        self._items = deque(left)
        self._ahead = max(0, self._ahead - (before - len(self._items)))
        self._count_anew()

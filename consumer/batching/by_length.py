"""Cutting a batch by length, for models that pad: the oldest request and its neighbours in length. Pure.

The oldest request is in every batch, so none waits longer than those before it take: unlike sorting all that waits,
which lets a long text starve while short ones keep coming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from .cut import Cut
from .load import Batchable, Budget, Load

T = TypeVar("T", bound=Batchable)


def cut_by_length(waiting: Iterable[T], priority_count: int, budget: Budget, now_s: float) -> Cut[T]:
    """Take one batch out of ``waiting``.

    Args:
        waiting: in the order in which it is served; the first ``priority_count`` are ahead of all others.
        now_s: what has a deadline until then has expired.
    """
    everything = list(waiting)
    alive = [place for place, item in enumerate(everything) if item.deadline_s > now_s]
    chosen = set(neighbours([everything[place].load for place in alive], budget))
    taken = {place for index, place in enumerate(alive) if index in chosen}
    left = [place for place in alive if place not in taken]
    items = [item for place, item in enumerate(everything) if place in taken]
    return Cut(
        items,
        [item for item in everything if item.deadline_s <= now_s],
        [everything[place] for place in left],
        sum(place < priority_count for place in left),
        sum(item.load.rows for item in items),
        sum(item.load.units for item in items),
    )


def neighbours(loads: Sequence[Load], budget: Budget) -> Sequence[int]:
    """Return the places of the first load and of those nearest to it in length, as many as fit together.

    The first is always there, even where it is too large for the budget: then it is alone.
    """
    if not loads:
        return ()
    chosen, (rows, units, longest) = [0], loads[0]
    # Sorting is stable: of two that are equally far away the older one comes first.
    for place in sorted(range(1, len(loads)), key=lambda place: abs(loads[place].longest - loads[0].longest)):
        load = loads[place]
        rows, units, longest = rows + load.rows, units + load.units, max(longest, load.longest)
        if not budget.fits(rows, units, longest):
            break
        chosen.append(place)
    return chosen


def parts_by_length(units: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the places of rows of about the same size: padded to the longest they have at most ``most`` units."""
    part: list[int] = []
    for place in sorted(range(len(units)), key=lambda place: units[place]):
        if part and units[place] * (len(part) + 1) > most:
            yield part
            part = []
        part.append(place)
    if part:
        yield part

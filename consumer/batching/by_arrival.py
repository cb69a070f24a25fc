"""Cutting a batch in the order of arrival: the oldest requests, as many as fit together. Pure."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from .cut import Cut
from .load import Batchable, Budget

T = TypeVar("T", bound=Batchable)


def cut_by_arrival(waiting: deque[T], priority_count: int, budget: Budget, all_fit: bool, now_s: float) -> Cut[T]:
    """Take one batch out of ``waiting``, in place: what is left there goes on waiting.

    The first request that may still run is always taken, even where it is too large for the budget: then it is alone.

    Args:
        waiting: in the order in which it is served; the first ``priority_count`` are ahead of all others.
        all_fit: all of it is known to fit into one batch, so that nothing has to be counted.
        now_s: what has a deadline until then has expired.
    """
    items: list[T] = []
    expired: list[T] = []
    rows = units = longest = 0
    while waiting:
        item = waiting[0]
        if item.deadline_s <= now_s:
            expired.append(item)
        else:
            load = item.load
            if not all_fit:
                longest = max(longest, load.longest)
                if items and budget.used(rows + load.rows, units + load.units, longest) > budget.most:
                    break
            rows += load.rows
            units += load.units
            items.append(item)
        waiting.popleft()
    return Cut(items, expired, waiting, max(0, priority_count - len(items) - len(expired)), rows, units)

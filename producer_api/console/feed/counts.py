"""Requests of a model and lane, counted: sums, differences of sums, and the quantiles of how long they took. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from shared.metrics.waits import WAIT_BOUNDS_S
from shared.wire.outcomes import ALL, OK

Place = tuple[str, str]
"""Model and lane."""

ERRORS: Final = frozenset(one.code for one in ALL if one.status == 429 or one.status >= 500)
"""Outcomes that an operator has to do with: refused for want of room, or failed. The alerts count the same."""


class Counts(Struct):
    """What became of requests.

    Attributes:
        ended: all of them.
        ok: those with an answer.
        errors: those that ended as one of ``ERRORS``; the rest are mistakes of clients, or were given up by them.
        good: answers that came in time.
        waits: how many replies came after how long, by bucket of ``WAIT_BOUNDS_S``; only buckets that have some.
    """

    ended: int = 0
    ok: int = 0
    errors: int = 0
    good: float = 0.0
    waits: dict[int, int] = {}

    @property
    def replies(self) -> int:
        """Return how many replies came through the queue."""
        return sum(self.waits.values())

    def __bool__(self) -> bool:
        return bool(self.ended or self.waits)


def taken(
    outcomes: Iterable[tuple[tuple[str, ...], int]], series: Mapping[Place, Sequence[int]]
) -> dict[Place, Counts]:
    """Return everything counted so far.

    Args:
        outcomes: how many requests ended how, by model, outcome and lane.
        series: how many replies came in each bucket.
    """
    found: defaultdict[Place, Counts] = defaultdict(Counts)
    for (model, outcome, lane), count in outcomes:
        one = found[model, lane]
        one.ended += count
        if outcome == OK.code:
            one.ok += count
        elif outcome in ERRORS:
            one.errors += count
    for place, counts in series.items():
        found[place].waits = {bucket: count for bucket, count in enumerate(counts) if count}
    return found


def grown(new: Mapping[Place, Counts], old: Mapping[Place, Counts], objective_s: float | None) -> dict[Place, Counts]:
    """Return what has been added between two moments; places where nothing has are left out.

    Args:
        objective_s: answers that take no longer are good; None for all.
    """
    found = {}
    for place, now in new.items():
        before = old.get(place) or Counts()
        waits = {at: count - before.waits.get(at, 0) for at, count in now.waits.items()}
        one = Counts(
            now.ended - before.ended,
            now.ok - before.ok,
            now.errors - before.errors,
            waits={at: count for at, count in waits.items() if count > 0},
        )
        one.good = one.ok if objective_s is None else one.ok * share_within(one.waits, objective_s)
        if one:
            found[place] = one
    return found


def added(some: Iterable[Counts]) -> Counts:
    """Return the sum."""
    total, waits = Counts(), dict[int, int]()
    known = waits.get
    for one in some:
        total.ended += one.ended
        total.ok += one.ok
        total.errors += one.errors
        total.good += one.good
        for at, count in one.waits.items():
            waits[at] = known(at, 0) + count
    total.waits = waits
    return total


def goodput(counts: Counts) -> float | None:
    """Return the share of answers that came in time, of those and the errors; None where there was neither."""
    judged = counts.ok + counts.errors
    return min(1.0, counts.good / judged) if judged > 0 else None


def quantiles_ms(waits: Mapping[int, int], shares: Sequence[float]) -> list[float | None]:
    """Return after how many ms so large a share of the replies had come, interpolated within a bucket.

    Args:
        shares: ascending, between 0 and 1.
    """
    total = sum(waits.values())
    if not total:
        return [None] * len(shares)
    found: list[float | None] = []
    running, ascending = 0, sorted(waits.items())
    at = 0
    for share in shares:
        rank = share * total
        while running + ascending[at][1] < rank and at + 1 < len(ascending):
            running += ascending[at][1]
            at += 1
        bucket, count = ascending[at]
        low, high = _edges_s(bucket)
        found.append(round(1000 * (low + (high - low) * min(1.0, max(0.0, (rank - running) / count))), 4))
    return found


def share_within(waits: Mapping[int, int], limit_s: float) -> float:
    """Return the share of replies that took no longer than a limit, interpolated within its bucket; 1 for none."""
    total = sum(waits.values())
    if not total:
        return 1.0
    last = bisect_left(WAIT_BOUNDS_S, limit_s)
    within = float(sum(count for at, count in waits.items() if at < last))
    if last in waits:
        low, high = _edges_s(last)
        within += waits[last] * (1.0 if high <= low else min(1.0, (limit_s - low) / (high - low)))
    return within / total


def _edges_s(bucket: int) -> tuple[float, float]:
    """Return the edges of a bucket; what lies beyond the last one is shown as that."""
    last = len(WAIT_BOUNDS_S) - 1
    return (WAIT_BOUNDS_S[min(bucket, last + 1) - 1] if bucket else 0.0), WAIT_BOUNDS_S[min(bucket, last)]

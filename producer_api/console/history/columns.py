"""From merged rows to the columns that a chart draws, with a bounded number of points. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from msgspec import Struct, field

from producer_api.console.feed.counts import added, goodput, quantiles_ms

from .merging import Merged, Slot
from .rows import STEP_MS, Gauges

_SHARES: Final = (0.5, 0.95, 0.99)
AT_ONCE: Final = 100
"""Slots, lanes in them, and points between two pauses: about 2 ms."""

Column = list[float | None]


class History(Struct, kw_only=True):
    """Columns of equal length, a point every ``step_s``; null where nothing is known.

    Attributes:
        at_s: when the time of each point began, in seconds since 1970 on Redis's clock.
        rate, errors: requests that ended per second.
        depth: most requests in the lanes at the end of any ten seconds of it.
        busy, batch, goodput: means.
    """

    step_s: int
    at_s: list[int] = field(default_factory=list)
    rate: Column = field(default_factory=list)
    errors: Column = field(default_factory=list)
    p50_ms: Column = field(default_factory=list)
    p95_ms: Column = field(default_factory=list)
    p99_ms: Column = field(default_factory=list)
    depth: Column = field(default_factory=list)
    busy: Column = field(default_factory=list)
    batch: Column = field(default_factory=list)
    goodput: Column = field(default_factory=list)


def per_point(minutes: int, points: int) -> int:
    """Return how many slots a point has, so that there are no more than ``points`` of them in so many minutes."""
    slots = minutes * 60_000 // STEP_MS
    return -(-slots // points)


def columns(
    merged: Merged, first: int, last: int, size: int, lane: str, watching_since: int
) -> Generator[None, None, History]:
    """Make the columns, with pauses: a day takes a while.

    Args:
        first, last: slots from and to which, last included; ``first`` begins a point.
        size: slots of a point; points begin at its multiples, so that they stay the same from one question to the next.
        lane: which one; empty for all.
        watching_since: see :meth:`Merged.is_known`.
    """
    found = History(step_s=size * STEP_MS // 1000)
    gauges, since_pause = merged.held, 0
    for start in range(first, last + 1, size):
        numbers = [at for at in range(start, min(start + size, last + 1)) if merged.is_known(at, watching_since)]
        slots = [merged.slots.get(number) or Slot() for number in numbers]
        held: list[Gauges] = []
        for slot in slots:  # what has not changed was not written
            gauges = slot.gauges or gauges
            held += [gauges] if gauges is not None else []
        if not numbers:
            gauges = None
        found.at_s.append(start * STEP_MS // 1000)
        _counted(found, slots, lane)
        _gauged(found, held, lane)
        since_pause += 1 + len(slots) + sum(len(share.lanes) for slot in slots for share in slot.shares.values())
        if since_pause >= AT_ONCE:
            since_pause = 0
            yield
    return found


def _counted(found: History, slots: Sequence[Slot], lane: str) -> None:
    if not slots:
        for column in (found.rate, found.errors, found.p50_ms, found.p95_ms, found.p99_ms, found.goodput):
            column.append(None)
        return
    rates = [slot.rates(lane) for slot in slots]
    found.rate.append(round(sum(rate for rate, _ in rates) / len(slots), 3))
    found.errors.append(round(sum(errors for _, errors in rates) / len(slots), 3))
    total = added(one for slot in slots for one in slot.counts(lane))
    for column, value in zip(
        (found.p50_ms, found.p95_ms, found.p99_ms), quantiles_ms(total.waits, _SHARES), strict=True
    ):
        column.append(value)
    share = goodput(total)
    found.goodput.append(None if share is None else round(share, 4))


def _gauged(found: History, held: Sequence[Gauges], lane: str) -> None:
    depths = [sum(one.depth for name, one in gauges.lanes.items() if not lane or name == lane) for gauges in held]
    found.depth.append(float(max(depths)) if depths else None)
    found.busy.append(_mean([gauges.busy for gauges in held], 4))
    found.batch.append(_mean([gauges.batch for gauges in held], 2))


def _mean(values: Sequence[float | None], digits: int) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), digits) if known else None

"""What rows ask of the device, as their model counts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from consumer.batching.load import Load

from .base import ROW, Model

Units = Callable[[Any], int]


def units_of(model: Model) -> Units | None:
    """Return what counts the units of a row; None where a row is a unit."""
    return None if model.describe().unit == ROW else model.units


def load_of(rows: Sequence[Any], units: Units | None) -> Load:
    """Return the load of ``rows``, one or more. It raises what ``units`` raises, which may be a user's code."""
    count = len(rows)
    if units is None:
        return Load(count, count, 1)
    each = [units(row) for row in rows]
    return Load(count, sum(each), max(each))

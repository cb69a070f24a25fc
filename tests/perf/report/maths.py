"""Medians, ratios within rounds, fitted lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several windows: the middle one and the worst one."""

    median: float
    worst: float


def spread(values: Iterable[float | None], *, higher_is_better: bool) -> Spread | None:
    """Return the median and the worst of the values that there are; None when there are none."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Spread(median=median(found), worst=min(found) if higher_is_better else max(found))


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that there are."""
    found = [value for value in values if value is not None]
    return median(found) if found else None


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Return `ours` over `theirs`, round by round: both sides of a quotient then met the same disturbances.

    Rounds in which either is missing, or `theirs` is 0, are left out; so is what has no partner.
    """
    return [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]


@dataclass(frozen=True, slots=True)
class Fit:
    """The line y = slope x + intercept."""

    slope: float
    intercept: float

    def at(self, x: float) -> float:
        """Return the line's value."""
        return self.slope * x + self.intercept


def fit_line(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the line of least squares.

    Raises:
        ValueError: fewer than two different x.
    """
    mean_x, mean_y = fmean(x), fmean(y)
    spread_x = sum((value - mean_x) ** 2 for value in x)
    if spread_x == 0 or len(x) != len(y):
        raise ValueError("A line needs two points with different x at least.")
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread_x
    return Fit(slope, mean_y - slope * mean_x)


def fit_relative(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the line whose relative errors have least squares: each point counts with the weight 1 / y².

    Batches of 1 and of 32 differ thirtyfold in duration; without weights the small ones would not count.

    Raises:
        ValueError: fewer than two different x, or a y that is not above 0.
    """
    if len(set(x)) < 2 or len(x) != len(y) or min(y) <= 0:
        raise ValueError("A line needs two points with different x at least, and y above 0.")
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    mean_x = sum(w * value for w, value in zip(weights, x, strict=True)) / total
    mean_y = sum(w * value for w, value in zip(weights, y, strict=True)) / total
    over = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True))
    slope = over / sum(w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    return Fit(slope, mean_y - slope * mean_x)

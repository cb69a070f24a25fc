"""What a figure shows, apart from how it is drawn. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Tone = Literal["one", "two", "three", "four", "good", "bad", "muted"]
Style = Literal["line", "dots", "bars", "rows", "intervals", "posts"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis. `ticks` are (value, text), chosen automatically when empty; `log` axes take positive values only."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1; beyond them for values beyond them."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(max(value, self.low * 1e-3)) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Return the ticks to draw."""
        return self.ticks or (_log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high))


@dataclass(frozen=True, slots=True)
class Point:
    """One value. `low` and `high` are the ends of an interval; `text` is what hovering shows."""

    x: float
    y: float
    text: str = ""
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    `bars` stand on the x axis, `rows` lie from the y axis, `intervals` are level and `posts` upright, from low to high.
    """

    name: str
    style: Style
    tone: Tone
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line across the figure, such as a budget."""

    axis: Literal["x", "y"]
    value: float
    label: str
    tone: Tone = "bad"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure. `key` names its file; `caption` says in a sentence or two what to see."""

    key: str
    title: str
    caption: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rules: tuple[Rule, ...] = ()
    height: int = 300


def short(value: float) -> str:
    """Write a number on an axis: `0.5`, `20`, `1,500`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    span = high - low
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first = math.ceil(low / step - 1e-9)
    return tuple((index * step, short(index * step)) for index in range(first, math.floor(high / step + 1e-9) + 1))


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    factors = (1, 2, 5) if high / low < 200 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in factors]
    found = tuple((value, short(value)) for value in values if low * 0.999 <= value <= high * 1.001)
    return found if len(found) > 2 else _ticks(low, high)


def axis_from(label: str, values: list[float], *, zero: bool = True, log: bool = False, room: float = 0.06) -> Axis:
    """Return an axis that holds the finite values, with a little room beyond them."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if log:
        return Axis(label, max(low, 1e-9) / 1.15, max(high, 1e-9) * 1.15, log=True)
    low = 0.0 if zero else low
    span = (high - low) or abs(high) or 1.0
    return Axis(label, low if zero else low - room * span, high + room * span)

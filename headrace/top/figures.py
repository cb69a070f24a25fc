"""Figures as a narrow table shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

UNKNOWN: Final = "-"
BARS: Final = " ▁▂▃▄▅▆▇█"
ASCII_BARS: Final = " .:-=+*#@"
_UNITS: Final = ("", "k", "M", "G", "T")


def count(value: Any) -> str:
    """Return a number in at most five characters, such as 12.3, 950, 1.2k or 34M."""
    if not isinstance(value, int | float):
        return UNKNOWN
    size, unit = float(value), 0
    while abs(size) >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    text = f"{size:.0f}" if abs(size) >= 99.95 or size == int(size) else f"{size:.1f}"
    return text + _UNITS[unit]


def milliseconds(value: Any) -> str:
    """Return a duration in ms: 0.42, 3.1, 250, or 12.5s where it is long."""
    if not isinstance(value, int | float):
        return UNKNOWN
    if value >= 9999.5:
        return f"{value / 1000:.1f}s" if value < 999_950 else f"{value / 1000:.0f}s"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def percent(value: Any) -> str:
    """Return a share."""
    return f"{100 * value:.0f}%" if isinstance(value, int | float) else UNKNOWN


def seconds(value: Any) -> str:
    """Return an age: 0.4s, 12s, 5m, 3h, 2d."""
    if not isinstance(value, int | float):
        return UNKNOWN
    for limit, size, unit in ((9.95, 1, "s"), (119.5, 1, "s"), (7170, 60, "m"), (172_000, 3600, "h")):
        if value < limit:
            return f"{value / size:.1f}{unit}" if limit < 10 else f"{value / size:.0f}{unit}"
    return f"{value / 86_400:.0f}d"


def size(value: Any) -> str:
    """Return bytes: 12 MB."""
    if not isinstance(value, int | float):
        return UNKNOWN
    return f"{value / (1 << 20):.0f} MB" if value < 10 << 30 else f"{value / (1 << 30):.0f} GB"


def text(value: Any) -> str:
    """Return a word."""
    return str(value) if value not in (None, "") else UNKNOWN


def cut(line: str, width: int) -> str:
    """Return as much of a line as fits."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "~" if width else ""


def curve(values: Sequence[Any], width: int, bars: str) -> str:
    """Return a line of bars, the latest value at the right; what is unknown is a gap, and zero the lowest bar."""
    shown = list(values)[-width:]
    known = [value for value in shown if isinstance(value, int | float)]
    most = max(known, default=0)
    steps = len(bars) - 2

    def bar(value: Any) -> str:
        if not isinstance(value, int | float):
            return bars[0]
        return bars[1 + round(steps * value / most)] if most > 0 else bars[1]

    return "".join(map(bar, shown)).rjust(width)

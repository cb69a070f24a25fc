"""Draws charts as SVG by hand: lines over two axes, or bars made of parts. Pure.

Every picture brings its own white ground, so that it reads the same on a light page and on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from tests.perf.figures import Bar, Chart, Line, Panel

_WIDTH, _HEIGHT = 960, 392
_INK, _SOFT, _LINE, _GROUND = "#1f2933", "#5b6773", "#e3e7eb", "#ffffff"
_COLOURS: Final = ("#1f6fb2", "#c2571a", "#3c8a4e", "#8a4fa3", "#a08a1f", "#5b6773")
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def draw(chart: Chart, told: str) -> str:
    """Return the picture as SVG text.

    Args:
        told: machine and date, written below.
    """
    bars = all(panel.bars for panel in chart.panels)
    height = 120 + 62 * max(len(panel.bars) for panel in chart.panels) if bars else _HEIGHT
    head = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" font-family="{escape(_FONT)}"'
    wide = (_WIDTH - 40) / len(chart.panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head} role="img" aria-label="{escape(chart.alt)}">',
        f'<rect x="0" y="0" width="{_WIDTH}" height="{height}" rx="6" fill="{_GROUND}"/>',
    ]
    for number, panel in enumerate(chart.panels):
        left = 24 + number * wide
        parts += _bars(panel, left, wide - 24) if panel.bars else _lines(panel, left, wide - 24)
    return "\n".join([*parts, _label(24, height - 14, told, 12, colour=_SOFT), "</svg>", ""])


def _lines(panel: Panel, left: float, wide: float) -> list[str]:
    """One panel of lines; the legend stands below the title, in the order of the lines."""
    parts = [_label(left, 34, panel.title, 16, weight=600), _label(left, 54, panel.told, 12, colour=_SOFT)]
    lines = [line for line in panel.lines if line.x]
    legend, rows = _legend([(line.label, colour, line.fit) for line, colour in _coloured(panel.lines)], left, wide)
    parts += legend
    if not lines:
        return [*parts, _label(left, 200, "nothing was measured", colour=_SOFT)]
    x0, x1, y0, y1 = left + 52, left + wide - 14, 320, 80 + 20 * rows
    x_ticks = ticks(0, max(max(line.x) for line in lines))
    lowest, highest = min(min(line.y) for line in lines), max(max(line.y) for line in lines)
    logarithmic = panel.y_log and lowest > 0
    y_ticks = decades(lowest, highest) if logarithmic else ticks(0, highest)

    def at_x(value: float) -> float:
        return x0 + (x1 - x0) * value / x_ticks[-1]

    def at_y(value: float) -> float:
        if logarithmic:
            share = math.log(value / y_ticks[0]) / math.log(y_ticks[-1] / y_ticks[0])
        else:
            share = value / y_ticks[-1]
        return y0 - (y0 - y1) * share

    for tick in y_ticks:
        colour = _SOFT if tick == y_ticks[0] else _LINE
        parts.append(f'<line x1="{x0}" y1="{at_y(tick):.1f}" x2="{x1}" y2="{at_y(tick):.1f}" stroke="{colour}"/>')
        parts.append(_label(x0 - 7, at_y(tick) + 4, short(tick), 12, anchor="end", colour=_SOFT))
    parts += [_label(at_x(tick), y0 + 18, short(tick), 12, anchor="middle", colour=_SOFT) for tick in x_ticks]
    parts.append(_label(x1, y0 + 35, panel.x_label, 12, anchor="end", colour=_SOFT))
    for line, colour in _coloured(panel.lines):
        parts += _curve([(at_x(x), at_y(y)) for x, y in zip(line.x, line.y, strict=True)], colour, line.fit)
    return parts


def _coloured(lines: Sequence[Line]) -> list[tuple[Line, str]]:
    """A fitted line has the colour of the line before it."""
    found: list[tuple[Line, str]] = []
    number = -1
    for line in lines:
        number += not line.fit
        found.append((line, _COLOURS[max(number, 0) % len(_COLOURS)]))
    return found


def _curve(points: Sequence[tuple[float, float]], colour: str, fit: bool) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = 'stroke-width="1.5" stroke-dasharray="5 4"' if fit else 'stroke-width="2.5"'
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" {style}/>'] if points else []
    if not fit:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    return parts


def _legend(entries: Sequence[tuple[str, str, bool]], left: float, wide: float) -> tuple[list[str], int]:
    """Names in rows as wide as the panel; returns them and the number of rows."""
    parts, x, row = [], left, 0
    for name, colour, fit in entries:
        width = 26 + 6.9 * len(name) + 14
        if x > left and x + width > left + wide:
            x, row = left, row + 1
        y = 76 + 20 * row
        dash = ' stroke-dasharray="5 4"' if fit else ""
        stroke = 'stroke-width="2"' if fit else 'stroke-width="4"'
        parts.append(
            f'<line x1="{x:.0f}" y1="{y - 4}" x2="{x + 18:.0f}" y2="{y - 4}" stroke="{colour}" {stroke}{dash}/>'
        )
        parts.append(_label(x + 24, y, name, 12))
        x += width
    return parts, row + 1


def _bars(panel: Panel, left: float, wide: float) -> list[str]:
    """Horizontal bars, each scaled to its own sum, because the sums differ by orders of magnitude."""
    parts = [_label(left, 34, panel.title, 16, weight=600), _label(left, 54, panel.told, 12, colour=_SOFT)]
    names = list(dict.fromkeys(name for bar in panel.bars for name in bar.parts))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    parts += _legend([(name, colours[name], False) for name in names], left, wide)[0]
    for row, bar in enumerate(panel.bars):
        parts += _bar(bar, panel.unit, colours, left, 96 + 62 * row, wide)
    return parts


def _bar(bar: Bar, unit: str, colours: dict[str, str], left: float, top: float, wide: float) -> list[str]:
    total = sum(bar.parts.values())
    parts, x, room = [_label(left, top + 16, bar.label, weight=600)], left + 130, wide - 220
    for name, value in bar.parts.items():
        width = room * value / total if total else 0.0
        parts.append(f'<rect x="{x:.1f}" y="{top:.0f}" width="{width:.1f}" height="26" fill="{colours[name]}"/>')
        if width > 34:
            parts.append(_label(x + width / 2, top + 18, short(value), 12, anchor="middle", colour=_GROUND))
        x += width
    return [*parts, _label(x + 8, top + 18, f"{short(total)} {unit}", 13, weight=600)]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers that span low to high, at most so many; the last is not below `high`."""
    if high <= low:
        high = low + 1
    rough = (high - low) / (most - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.9999)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step * 0.9999))
    return [number * step for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, 20, … so that low and high lie within; where many, powers of ten only."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [10.0**power * factor for power in range(first, last + 1) for factor in (1, 2, 5)]
    start = max((value for value in every if value <= low * 1.0001), default=every[0])
    end = min((value for value in every if value >= high * 0.9999), default=every[-1])
    found = [value for value in every if start <= value <= end]
    if len(found) < 2:
        return [start, start * 10]
    return found if len(found) <= 8 else [value for value in found if _is_power(value) or value in (start, end)]


def short(value: float) -> str:
    """Write a number in a few characters: 0.25, 12, 450, 1,200, 75k."""
    if value >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _is_power(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


def _label(
    x: float, y: float, text: str, size: int = 14, *, colour: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def files(charts: Iterable[Chart], told: str) -> dict[str, str]:
    """Return every picture by its file name."""
    return {f"bench-{chart.name}.svg": draw(chart, told) for chart in charts}

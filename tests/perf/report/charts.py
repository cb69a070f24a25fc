"""Draws charts as SVG files: lines over two axes, or bars made of parts. Pure.

Axes and lines are drawn as in the load generator's reports. Every picture brings its own colours and its own white
ground, so that it reads the same on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, cast

from loadgen.reports import svg
from loadgen.reports.figure import Figure, Point, Series, Tone, axis_from, short
from tests.perf.report.figures import Bar, Chart, Line, Panel

_WIDTH, _ROW = 960, 330
_INK, _SOFT, _GROUND = "#1f2933", "#5b6773", "#ffffff"
_COLOURS: Final = ("#1f6fb2", "#c2571a", "#3c8a4e", "#8a4fa3", "#a08a1f", "#5b6773")
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_STYLE: Final = "".join(
    [
        f"text {{ font-family: {_FONT}; }} .tick, .label {{ font-size: 12px; fill: {_SOFT}; }} ",
        f".grid {{ stroke: #e3e7eb; }} .axis {{ stroke: {_SOFT}; }} .line {{ fill: none; stroke-width: 2.5; }} ",
        ".line.fit { stroke-width: 1.5; stroke-dasharray: 5 4; } .mark.fit { display: none; } ",
        *(f".line.c{n} {{ stroke: {one}; }} .mark.c{n} {{ fill: {one}; }} " for n, one in enumerate(_COLOURS)),
    ]
)


def draw(chart: Chart, told: str) -> str:
    """Return the picture as SVG text.

    Args:
        told: machine and date, written below.
    """
    bars = all(panel.bars for panel in chart.panels)
    wide = (_WIDTH - 40) / min(len(chart.panels), chart.columns)
    tall = 100 + 62 * max(len(panel.bars) for panel in chart.panels) if bars else _ROW
    legends = [_coloured(panel.lines) for panel in chart.panels]
    top = 0
    parts = [f"<style>{escape(_STYLE)}</style>"]
    if len(legends) > 2 and all(legend == legends[0] for legend in legends):  # one for all
        drawn, rows = _legend(legends[0], 24, 34, _WIDTH - 48)
        top, legends, parts = 8 + 20 * rows, [[] for _ in legends], [*parts, *drawn]
    for number, (panel, legend) in enumerate(zip(chart.panels, legends, strict=True)):
        row, column = divmod(number, chart.columns)
        place = 24 + column * wide, top + row * tall, wide - 24
        parts += _bars(panel, *place) if panel.bars else _lines(panel, legend, *place)
    height = top + (number // chart.columns + 1) * tall + 20
    head = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {head} aria-label="{escape(chart.alt)}">',
            f'<rect x="0" y="0" width="{_WIDTH}" height="{height}" rx="6" fill="{_GROUND}"/>',
            *parts,
            _label(24, height - 10, told, 12, colour=_SOFT),
            "</svg>",
            "",
        ]
    )


Legend = Sequence[tuple[str, str]]
"""Names and the classes that they are drawn with."""


def _coloured(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Give each line its classes: a fitted one has the colour of the line before it."""
    found: list[tuple[str, str]] = []
    number = -1
    for line in lines:
        number += not line.fit
        found.append((line.label, f"c{max(number, 0) % len(_COLOURS)}{' fit' if line.fit else ''}"))
    return found


def _lines(panel: Panel, legend: Legend, left: float, top: float, wide: float) -> list[str]:
    """One panel of lines; the legend stands below the title, in the order of the lines."""
    parts, rows = _legend(legend, left, top + 76, wide)
    parts += _titles(panel, left, top)
    tones = [cast(Tone, classes) for _, classes in _coloured(panel.lines)]
    series = tuple(
        Series(line.label, "line", tone, tuple(Point(x, y) for x, y in zip(line.x, line.y, strict=True)))
        for line, tone in zip(panel.lines, tones, strict=True)
    )
    points = [point for one in series for point in one.points]
    if not points:
        return [*parts, _label(left, top + 200, "nothing was measured", colour=_SOFT)]
    lowest = min(point.y for point in points)
    x = axis_from(panel.x_label, [point.x for point in points])
    # What is measured stands above; an axis without any name has no grid.
    y = axis_from(" ", [point.y for point in points], log=panel.y_log and lowest > 0)
    down = 66 + 20 * rows
    figure = Figure("", panel.title, panel.told, x, y, series[::-1], height=_ROW - down)  # the first lies on top
    drawn = svg.draw(figure, round(wide))
    return [*parts, drawn.replace("<svg ", f'<svg x="{left:.0f}" y="{top + down:.0f}" ', 1)]


def _titles(panel: Panel, left: float, top: float) -> list[str]:
    return [
        _label(left, top + 34, panel.title, 16, weight=600),
        _label(left, top + 54, panel.told, 12, colour=_SOFT),
    ]


def _legend(entries: Legend, left: float, top: float, wide: float) -> tuple[list[str], int]:
    """Names in rows as wide as the panel; returns them and the number of rows."""
    parts, x, row = [], left, 0
    for name, classes in entries:
        width = 26 + 6.9 * len(name) + 14
        if x > left and x + width > left + wide:
            x, row = left, row + 1
        y = top + 20 * row
        parts.append(f'<path d="M{x:.0f},{y - 4:.0f}h18" class="line {classes}"/>')
        parts.append(_label(x + 24, y, name, 12))
        x += width
    return parts, row + 1 if entries else 0


def _bars(panel: Panel, left: float, top: float, wide: float) -> list[str]:
    """Horizontal bars, each scaled to its own sum, because the sums differ by orders of magnitude."""
    names = list(dict.fromkeys(name for bar in panel.bars for name in bar.parts))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    entries = [(name, f"c{number % len(_COLOURS)}") for number, name in enumerate(names)]
    parts = [*_titles(panel, left, top), *_legend(entries, left, top + 76, wide)[0]]
    for row, bar in enumerate(panel.bars):
        parts += _bar(bar, panel.unit, colours, left, top + 96 + 62 * row, wide)
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

"""[I/O] A figure as PNG, for documents, drawn by matplotlib: the only part of the generator that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadgen.errors import LoadgenError

from .figure import Axis, Figure

_COLOURS = {
    "one": "#2563c9", "two": "#d06a0b", "three": "#0f8a5f", "four": "#8b3fb8", "good": "#0f7a4b", "bad": "#c02626",
    "muted": "#5b6775",
}  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Draw a figure into a file.

    Raises:
        LoadgenError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Sheet
    except ImportError:
        raise LoadgenError("PNG needs matplotlib, which is not installed; the HTML report does without it.") from None
    sheet = Sheet(figsize=(8, figure.height / 90 + 0.9), dpi=150, layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    _scale(axes.xaxis, axes.set_xscale, axes.set_xlim, figure.x)
    _scale(axes.yaxis, axes.set_yscale, axes.set_ylim, figure.y)
    for series in figure.series:
        _draw(axes, series.style, series)
    for rule in figure.rules:
        draw_line = axes.axhline if rule.axis == "y" else axes.axvline
        draw_line(rule.value, color=_COLOURS[rule.tone], linestyle="--", linewidth=1.2, label=rule.label or None)
    axes.set_title(figure.title, loc="left", fontweight="bold")
    axes.grid(color="#eceff3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        sheet.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    try:
        sheet.savefig(path)
    except OSError as error:
        raise LoadgenError(f"Cannot write {path}: {error.strerror}.") from error


def _scale(side: Any, set_scale: Any, set_limits: Any, axis: Axis) -> None:
    if axis.log:
        set_scale("log")
    set_limits(axis.low, axis.high)
    marks = axis.marks()
    side.set_ticks([value for value, _ in marks], [text for _, text in marks])
    side.set_ticks([], minor=True)
    side.set_label_text(axis.label)


def _draw(axes: Any, style: str, series: Any) -> None:
    x, y = [point.x for point in series.points], [point.y for point in series.points]
    colour = _COLOURS[series.tone]
    if style == "line":
        axes.plot(x, y, color=colour, marker="o" if len(x) < 30 else None, markersize=3.5, label=series.name)
    elif style == "dots":
        axes.scatter(x, y, s=8 if len(x) > 100 else 22, color=colour, alpha=0.6, linewidths=0, label=series.name)
    elif style == "bars":
        axes.bar(x, y, width=0.8, color=colour, label=series.name)
    elif style == "rows":
        axes.barh(y, x, height=0.6, color=colour, label=series.name)
    elif style == "posts":
        low, high = [point.low for point in series.points], [point.high for point in series.points]
        axes.vlines(x, low, high, colour, linewidth=2, label=series.name)
    else:
        low, high = [point.low for point in series.points], [point.high for point in series.points]
        axes.hlines(y, low, high, color=colour, linewidth=3)
        axes.scatter(x, y, marker="|", s=160, color=colour, linewidths=4, label=series.name)

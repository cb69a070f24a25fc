"""A figure as SVG text, for one width. Colours are CSS classes, so the page's theme decides them. Pure."""

from __future__ import annotations

from html import escape

from .figure import Figure, Point, Series

_TOP, _RIGHT, _BOTTOM = 14, 14, 46
_LETTER = 6.6
"""Rough width of a letter of the 12 px labels."""


class _Canvas:
    def __init__(self, figure: Figure, width: int) -> None:
        self.figure, self.width, self.height = figure, width, figure.height
        widest = max((len(text) for _, text in figure.y.marks()), default=3)
        self.left = min(round(widest * _LETTER) + (26 if figure.y.label else 12), width // 2)
        self.right, self.bottom = width - _RIGHT, figure.height - _BOTTOM
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        return round(self.left + self.figure.x.place(value) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        return round(self.bottom - self.figure.y.place(value) * (self.bottom - _TOP), 1)

    def add(self, text: str) -> None:
        self.parts.append(text)

    def text(self, x: float, y: float, text: str, kind: str, anchor: str = "middle", more: str = "") -> None:
        self.add(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}"{more}>{escape(text)}</text>')


def draw(figure: Figure, width: int) -> str:
    """Return an `<svg>` element of that width; hovering shows each point's text."""
    canvas = _Canvas(figure, width)
    _axes(canvas)
    for series in figure.series:
        _DRAW[series.style](canvas, series)
    _rules(canvas)
    label = escape(f"{figure.title}. {figure.caption}", quote=True)
    return (
        f'<svg viewBox="0 0 {width} {figure.height}" width="{width}" height="{figure.height}" role="img" '
        f'aria-label="{label}">{"".join(canvas.parts)}</svg>'
    )


def _axes(canvas: _Canvas) -> None:
    figure = canvas.figure
    taken = -1e9
    for value, text in figure.x.marks():
        at, half = canvas.x(value), len(text) * _LETTER / 2
        grid = figure.series and figure.series[0].style != "bars"
        if grid:
            canvas.add(f'<line x1="{at:g}" x2="{at:g}" y1="{_TOP}" y2="{canvas.bottom}" class="grid"/>')
        if at - half > taken + 6:
            canvas.text(at, canvas.bottom + 17, text, "tick")
            taken = at + half
    for value, text in figure.y.marks():
        at = canvas.y(value)
        if figure.y.label:
            canvas.add(f'<line x1="{canvas.left}" x2="{canvas.right}" y1="{at:g}" y2="{at:g}" class="grid"/>')
        canvas.text(canvas.left - 7, at + 4, text, "tick", "end")
    canvas.add(f'<line x1="{canvas.left}" x2="{canvas.right}" y1="{canvas.bottom}" y2="{canvas.bottom}" class="axis"/>')
    canvas.text((canvas.left + canvas.right) / 2, figure.height - 8, figure.x.label, "label")
    if figure.y.label:
        middle = (_TOP + canvas.bottom) / 2
        canvas.text(11, middle, figure.y.label, "label", more=f' transform="rotate(-90 11 {middle:g})"')


def _title(point: Point) -> str:
    return f"<title>{escape(point.text)}</title>" if point.text else ""


def _line(canvas: _Canvas, series: Series) -> None:
    path = " ".join(f"{canvas.x(point.x):g},{canvas.y(point.y):g}" for point in series.points)
    canvas.add(f'<polyline points="{path}" class="line {series.tone}"/>')
    for point in series.points:
        canvas.add(
            f'<circle cx="{canvas.x(point.x):g}" cy="{canvas.y(point.y):g}" r="{3 if len(series.points) < 30 else 2}" '
            f'class="mark {series.tone}">{_title(point)}</circle>'
        )


def _dots(canvas: _Canvas, series: Series) -> None:
    radius = 4 if len(series.points) < 100 else 2
    for point in series.points:
        canvas.add(
            f'<circle cx="{canvas.x(point.x):g}" cy="{canvas.y(point.y):g}" r="{radius}" class="dot {series.tone}">'
            f"{_title(point)}</circle>"
        )


def _bars(canvas: _Canvas, series: Series) -> None:
    width = canvas.x(0.8) - canvas.x(0.0)
    for point in series.points:
        top = canvas.y(point.y)
        canvas.add(
            f'<rect x="{canvas.x(point.x) - width / 2:g}" y="{top:g}" width="{width:g}" '
            f'height="{max(canvas.bottom - top, 0):g}" rx="2" class="bar {series.tone}">{_title(point)}</rect>'
        )


def _rows(canvas: _Canvas, series: Series) -> None:
    for point in series.points:
        at = canvas.y(point.y)
        canvas.add(
            f'<rect x="{canvas.left}" y="{at - 9:g}" width="{max(canvas.x(point.x) - canvas.left, 1):g}" height="18" '
            f'rx="2" class="bar {series.tone}">{_title(point)}</rect>'
        )
        text = f"{point.x:.3g} ms"
        canvas.text(canvas.x(point.x) + 6, at + 4, text, "value", "start")


def _intervals(canvas: _Canvas, series: Series) -> None:
    low, high = canvas.figure.x.low, canvas.figure.x.high
    for point in series.points:
        at = canvas.y(point.y)
        left, right = canvas.x(max(point.low, low)), canvas.x(min(point.high, high))
        canvas.add(f'<line x1="{left:g}" x2="{right:g}" y1="{at:g}" y2="{at:g}" class="span {series.tone}"/>')
        canvas.add(
            f'<rect x="{canvas.x(point.x) - 3:g}" y="{at - 9:g}" width="6" height="18" rx="2" '
            f'class="mark {series.tone}">{_title(point)}</rect>'
        )


def _posts(canvas: _Canvas, series: Series) -> None:
    for point in series.points:
        at, top, foot = canvas.x(point.x), canvas.y(point.high), canvas.y(point.low)
        canvas.add(
            f'<line x1="{at:g}" x2="{at:g}" y1="{top:g}" y2="{foot:g}" class="post {series.tone}">'
            f"{_title(point)}</line>"
        )


def _rules(canvas: _Canvas) -> None:
    lines = 0  # of labels at the top, one below the other
    for rule in canvas.figure.rules:
        if rule.axis == "y":
            at = canvas.y(rule.value)
            canvas.add(
                f'<line x1="{canvas.left}" x2="{canvas.right}" y1="{at:g}" y2="{at:g}" class="rule {rule.tone}"/>'
            )
            canvas.text(canvas.left + 6, at - 5, rule.label, f"rule-label {rule.tone}", "start")
        else:
            at = canvas.x(rule.value)
            canvas.add(f'<line x1="{at:g}" x2="{at:g}" y1="{_TOP}" y2="{canvas.bottom}" class="rule {rule.tone}"/>')
            room = len(rule.label) * _LETTER
            anchor, shift = ("start", 5) if at + room + 5 < canvas.right else ("end", -5)
            canvas.text(at + shift, _TOP + 10 + 15 * lines, rule.label, f"rule-label {rule.tone}", anchor)
            lines += bool(rule.label)


_DRAW = {"line": _line, "dots": _dots, "bars": _bars, "rows": _rows, "intervals": _intervals, "posts": _posts}

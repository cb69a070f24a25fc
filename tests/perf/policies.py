"""Simulates the batching policies, draws docs/img/batching-policies.svg and fills the table of docs/batching.md.

``python -m tests.perf.policies`` takes less than a minute; everything is seeded, so that it gives the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from tests import simulation as sim

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "batching.md"
PICTURE = ROOT / "docs" / "img" / "batching-policies.svg"
BEGIN, END = "<!-- policies:begin (made by `python -m tests.perf.policies`) -->", "<!-- policies:end -->"

POLICIES: Final = {
    "window 0": sim.Policy(0.0),
    "window 1 ms": sim.Policy(1.0),
    "window 5 ms": sim.Policy(5.0),
    "window 20 ms": sim.Policy(20.0),
    "adaptive": sim.ADAPTIVE,
}
_COLOURS: Final = ("#5b6773", "#7fa650", "#d9902f", "#b4564c", "#1f6fb2")
_INK, _SOFT, _LINE = "#1f2933", "#5b6773", "#d5dbe1"
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_WIDTH, _HEIGHT, _PANEL, _TALL = 960, 520, 250, 150
_LEFTS, _TOPS = (60, 370, 680), (96, 306)
_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_CLIENTS = (1, 2, 4, 8, 16, 24, 32)
_REQUESTS = 12_000
_TRAVEL_S = 0.001
_LASTS_S = 8.0

Scenario = Callable[[sim.Policy], sim.Day]


@cache
def independent(device: sim.Device, load: float) -> Scenario:
    """Requests at random, at a share of the capacity."""
    return cache(lambda policy: sim.open_day(device, policy, load, _REQUESTS))


@cache
def returning(device: sim.Device, clients: int) -> Scenario:
    """Clients that ask again a millisecond after their answer."""
    return cache(lambda policy: sim.closed_day(device, policy, clients, _TRAVEL_S, _LASTS_S))


@cache
def bursts(device: sim.Device, size: int, load: float) -> Scenario:
    """Bursts within half a millisecond."""
    return cache(lambda policy: sim.burst_day(device, policy, size, load, _REQUESTS // size))


def table() -> str:
    """Return mean and p99 of every policy, as Markdown."""
    rows = [
        *((f"CPU, independent, {load:.0%} of capacity", independent(sim.CPU, load)) for load in (0.1, 0.5, 0.9)),
        *((f"GPU, independent, {load:.0%} of capacity", independent(sim.GPU, load)) for load in (0.1, 0.5, 0.9)),
        ("GPU, bursts of 16, 10% of capacity", bursts(sim.GPU, 16, 0.1)),
        *((f"GPU, {clients} returning clients", returning(sim.GPU, clients)) for clients in (4, 16, 32)),
    ]
    lines = [f"| mean / p99, ms | {' | '.join(POLICIES)} |", "|---|" + "---|" * len(POLICIES)]
    for name, scenario in rows:
        days = [scenario(policy) for policy in POLICIES.values()]
        cells = [f"{day.mean_s * 1000:.1f} / {day.quantile_s(0.99) * 1000:.1f}" for day in days]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rates = [f"{returning(sim.GPU, 16)(policy).rate_per_s:,.0f}/s" for policy in POLICIES.values()]
    lines.append(f"| throughput with 16 returning clients | {' | '.join(rates)} |")
    return "\n".join(lines)


def draw() -> str:
    """Return the picture as SVG text: mean above, p99 below; two devices under load, and returning clients."""
    columns: list[tuple[str, str, Sequence[float], list[Scenario]]] = [
        ("CPU: 2 ms + 5 ms a row", "share of capacity", _LOADS, [independent(sim.CPU, load) for load in _LOADS]),
        ("GPU: 8 ms + 0.1 ms a row", "share of capacity", _LOADS, [independent(sim.GPU, load) for load in _LOADS]),
        ("The same GPU, returning clients", "clients", _CLIENTS, [returning(sim.GPU, n) for n in _CLIENTS]),
    ]
    head = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-family="{escape(_FONT)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head} role="img" aria-label="Latency of the batching policies">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for number, (name, colour) in enumerate(zip(POLICIES, _COLOURS, strict=True)):
        x = _LEFTS[0] + number * 145
        parts += [_stroke([(x, 20), (x + 22, 20)], colour, name == "adaptive"), _text(x + 28, 25, name)]
    for left, (title, axis, values, scenarios) in zip(_LEFTS, columns, strict=True):
        parts.append(_text(left, 62, title, size=15, weight=600))
        for top, what in zip(_TOPS, ("mean", "p99"), strict=True):
            parts += _panel(left, top, what, values, scenarios)
        parts.append(_text(left + _PANEL / 2, _TOPS[1] + _TALL + 36, axis, colour=_SOFT, anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: float, top: float, what: str, values: Sequence[float], scenarios: Sequence[Scenario]) -> list[str]:
    def of(day: sim.Day) -> float:
        return (day.mean_s if what == "mean" else day.quantile_s(0.99)) * 1000

    curves = [[of(scenario(policy)) for scenario in scenarios] for policy in POLICIES.values()]
    low = min(min(curve) for curve in curves) * 0.9
    high = max(max(curve) for curve in curves) * 1.1
    fine = (15, 30) if high < 6 * low else ()
    ticks = [tick for tick in (5, 10, *fine, 20, 50, 100, 200, 500) if low <= tick <= high]

    def at(value_ms: float) -> float:
        return top + _TALL * (1 - math.log(value_ms / low) / math.log(high / low))

    def across(place: int) -> float:
        return left + _PANEL * place / (len(values) - 1)

    parts = [_text(left, top - 8, f"{what}, ms", size=12, colour=_SOFT)]
    for tick in ticks:
        parts.append(_stroke([(left, at(tick)), (left + _PANEL, at(tick))], _LINE, False, 1.0))
        parts.append(_text(left - 6, at(tick) + 4, str(tick), size=12, colour=_SOFT, anchor="end"))
    for place, value in enumerate(values):
        if place in (0, len(values) // 2, len(values) - 1):
            told = f"{value:.0%}" if value < 1 else f"{value:g}"
            parts.append(_text(across(place), top + _TALL + 16, told, size=12, colour=_SOFT, anchor="middle"))
    for name, curve, colour in zip(POLICIES, curves, _COLOURS, strict=True):
        points = [(across(place), at(value)) for place, value in enumerate(curve)]
        parts.append(_stroke(points, colour, name == "adaptive"))
    return parts


def _stroke(points: Sequence[tuple[float, float]], colour: str, is_strong: bool, width: float = 0.0) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    width = width or (3.0 if is_strong else 1.6)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>'


def _text(
    x: float, y: float, text: str, size: int = 13, *, colour: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def filled(page: str, block: str) -> str:
    """Return the page with ``block`` between its markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The page must hold {BEGIN} and, behind it, {END}.")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def main() -> None:
    """Write both files."""
    PICTURE.write_text(draw(), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
    print(f"Wrote {PICTURE.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()

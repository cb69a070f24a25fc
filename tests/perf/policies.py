"""Simulates the batching policies, draws docs/img/batching-policies.svg and fills the table of docs/batching.md.

``python -m tests.perf.policies`` takes less than a minute; everything is seeded, so that it gives the same each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests import simulation as sim
from tests.perf.report import charts
from tests.perf.report.document import replace_block
from tests.perf.report.figures import Chart, Line, Panel

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "batching.md"
PICTURE = ROOT / "docs" / "img" / "batching-policies.svg"
BETWEEN = "<!-- policies:begin (made by `python -m tests.perf.policies`) -->", "<!-- policies:end -->"

POLICIES: Final = {
    "window 0": sim.Policy(0.0),
    "window 1 ms": sim.Policy(1.0),
    "window 5 ms": sim.Policy(5.0),
    "window 20 ms": sim.Policy(20.0),
    "adaptive": sim.ADAPTIVE,
}
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
    figures: tuple[tuple[str, Callable[[sim.Day], float]], ...] = (
        ("mean, ms", lambda day: day.mean_s * 1000),
        ("p99, ms", lambda day: day.quantile_s(0.99) * 1000),
    )
    panels = [
        Panel(
            title=title,
            told=told,
            x_label=axis,
            y_log=True,
            lines=[
                Line(label=name, x=[*map(float, values)], y=[figure(scenario(policy)) for scenario in scenarios])
                for name, policy in reversed(POLICIES.items())
            ],
        )
        for told, figure in figures
        for title, axis, values, scenarios in columns
    ]
    return charts.draw(Chart(name="policies", alt="Latency of the batching policies", panels=panels, columns=3), "")


def main() -> None:
    """Write both files."""
    PICTURE.write_text(draw(), encoding="utf-8")
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), table(), BETWEEN), encoding="utf-8")
    print(f"Wrote {PICTURE.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()

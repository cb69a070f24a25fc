"""[I/O] `loadgen sweep`: latency against rate, and the highest rate within a latency target."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from .budget_files import model_budget, read_budgets
from .budgets import GateSettings
from .command import Load
from .errors import EXIT_OK, EXIT_USAGE, LoadgenError, stop_code
from .gate.verdict import number
from .load.runner import perform
from .progress import choose_progress
from .reports.text import figures
from .results import files
from .results.machine import describe_machine
from .results.runfile import RunFile
from .results.sweepfile import FORMAT, VERSION, Point, SweepFile
from .scenario import Scenario, api_key, parse_target

_FIRST_RATE_PER_S: Final = 5.0
_GROWTH: Final = 2.0
_PRECISION: Final = 1.05
"""The search ends when the best rate and the next that failed are within 5% of one another."""
_MOST_POINTS: Final = 24
_LEAST_REQUESTS: Final = 2


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """What latency may be at most; None where there is no limit."""

    mean_ms: float | None
    p95_ms: float | None

    def met_by(self, run: RunFile) -> bool | None:
        """Whether a run is within it; None without a target. A failed request is infinitely slow."""
        if self.mean_ms is None and self.p95_ms is None:
            return None
        latency = run.latency.from_planned
        pairs = ((latency.mean_ms, self.mean_ms), (latency.p95_ms, self.p95_ms))
        return all(limit is None or (value is not None and value <= limit) for value, limit in pairs)


def next_rate(points: list[Point], first: float, least: float = 0.1) -> float | None:
    """Return the next rate of a search: doubled until one fails, then within the gap; None when it is small. Pure."""
    good = [point.rate_per_s for point in points if point.fit and point.within]
    bad = [point.rate_per_s for point in points if not (point.fit and point.within)]
    best, worst = max(good, default=0.0), min(bad, default=0.0)
    if len(points) >= _MOST_POINTS:
        return None
    if not points:
        return first
    if not bad:
        return best * _GROWTH
    if not good:
        return worst / _GROWTH if worst / _GROWTH >= least else None
    return None if worst <= best * _PRECISION else (best * worst) ** 0.5


def generators_fault(run: RunFile, rules: GateSettings) -> str | None:
    """Say how the generator itself was the limit of a run, by the rules that the gate has for it; None: it was not."""
    lag_ms, share = run.validity.pacing_lag.p99_ms, run.validity.generator_cpu_share
    if lag_ms is None or lag_ms > rules.max_pacing_lag_ms:
        return f"the generator was late (p99 {number(lag_ms, ' ms')})"
    if share is None or share > rules.max_cpu_share:
        return f"the generator used {'an unknown part' if share is None else f'{share:.0%}'} of a core"
    return None


def point_of(run: RunFile, rate: float, target: LatencyTarget, rules: GateSettings) -> Point:
    """Return a point of the curve from a run. Pure."""
    counts, achieved = run.counts, run.validity.achieved_rate_per_s
    done_s = max(run.requests.done_us, default=0) / 1e6
    return Point(
        rate_per_s=rate,
        achieved_per_s=achieved,
        completed_per_s=counts.ok / max(done_s, run.configuration.duration_s) if done_s else None,
        scheduled=counts.scheduled,
        failed=counts.scheduled - counts.ok,
        fit=counts.ok == counts.scheduled
        and (achieved or 0) >= rules.min_rate_share * rate
        and generators_fault(run, rules) is None,
        within=target.met_by(run),
        latency=run.latency.from_planned,
    )


def carry_out(
    *,
    url: str | None,
    model: str,
    budgets_path: Path | None,
    rates: tuple[float, ...] | None,
    search: bool,
    mean_ms: float | None,
    p95_ms: float | None,
    duration_s: float,
    out: Path,
    **options: Any,
) -> int:
    """Carry out `sweep` and return its exit code.

    Raises:
        LoadgenError: usage, or nothing was measured.
    """
    path = files.prepare_folder(out, "sweep.json")
    if url is None:
        raise LoadgenError("Give --url, the address of a running service.", EXIT_USAGE)
    budget, folder = model_budget(budgets_path, model)
    if budget is not None:
        mean_ms, p95_ms = mean_ms or budget.mean_ms, p95_ms or budget.p95_ms
    target = LatencyTarget(mean_ms, p95_ms)
    rules = read_budgets(budgets_path).gate if budgets_path else GateSettings()
    if search and mean_ms is None and p95_ms is None:
        raise LoadgenError("--search needs a latency target: --p95-ms, --mean-ms or --budgets.", EXIT_USAGE)
    if search == bool(rates):
        raise LoadgenError("Give either --rates or --search.", EXIT_USAGE)
    load = Load(model=model, rate=rates[0] if rates else _FIRST_RATE_PER_S, duration_s=duration_s, **options)
    scenario = load.scenario(parse_target(url, api_key(os.environ)), budget, folder)
    points, card, code = _measure(scenario, rates, target, rules, lambda line: click.echo(line))
    points.sort(key=lambda point: point.rate_per_s)
    good = [point.rate_per_s for point in points if point.fit and point.within]
    found = SweepFile(
        format=FORMAT,
        version=VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        partial=code != EXIT_OK,
        url=scenario.target.shown,
        model=model,
        seed=scenario.seed,
        duration_s=duration_s,
        target_mean_ms=mean_ms,
        target_p95_ms=p95_ms,
        best_per_s=max(good, default=None),
        machine=describe_machine(),
        card=card,
        points=points,
    )
    files.write_atomically(path, files.encode(found))
    if mean_ms is not None or p95_ms is not None:
        click.echo(f"Highest rate within the target: {number(found.best_per_s, '/s') if good else 'none'}")
    click.echo(f"written to {path}")
    return code


def _measure(
    scenario: Scenario,
    rates: tuple[float, ...] | None,
    target: LatencyTarget,
    rules: GateSettings,
    say: Callable[[str], None],
) -> tuple[list[Point], dict[str, Any] | None, int]:
    """Return the points, the model's card, and the exit code: not 0 when it was cut short after the first point."""
    points: list[Point] = []
    card: dict[str, Any] | None = None
    left = list(rates or ())
    least = _LEAST_REQUESTS / scenario.duration_s
    while True:
        rate = next_rate(points, _FIRST_RATE_PER_S, least) if rates is None else left.pop(0) if left else None
        if rate is None:
            return points, card, EXIT_OK
        title = f"{scenario.model} at {number(rate, '/s')}"
        try:
            run, stopped_by = perform(
                replace(scenario, rate_per_s=rate),
                (scenario.target,),
                lambda title=title: choose_progress(title),  # type: ignore[misc]
            )
        except (LoadgenError, KeyboardInterrupt) as stop:  # the points measured so far are worth keeping
            if not points:
                raise
            if isinstance(stop, LoadgenError):
                click.echo(f"loadgen: {stop}", err=True)
            return points, card, stop_code(stop)
        if stopped_by is not None:
            return points, card, 128 + stopped_by
        card = run.service.card
        point = point_of(run, rate, target, rules)
        points.append(point)
        fault = generators_fault(run, rules)
        verdict = f"  not counted: {fault}" if fault is not None else _verdict(point)
        failed = f"  {point.failed} failed" if point.failed else ""
        say(f"{number(rate, '/s'):>9}  {figures(point.latency)}{failed}{verdict}")


def _verdict(point: Point) -> str:
    if point.within is None:
        return ""
    return "  within" if point.within and point.fit else "  beyond the target"

"""[I/O] `loadgen sweep`: latency against rate, and the highest rate within a latency target."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from .reports.token_text import figures, token_line
from .results import files
from .results.machine import describe_machine
from .results.runfile import Histogram, RunFile
from .results.sweepfile import FORMAT, VERSION, Point, SweepFile
from .scenario import Scenario, Target, api_key, parse_target

_FIRST_RATE_PER_S: Final = 5.0
_GROWTH: Final = 2.0
_PRECISION: Final = 1.05
"""The search ends when the best rate and the next that failed are within 5% of one another."""
_MOST_POINTS: Final = 24
_LEAST_REQUESTS: Final = 2
_STAGE: Final = "headrace_stage_duration_seconds"


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """What latency may be at most, and goodput at least (a share); None where there is no limit."""

    mean_ms: float | None
    p95_ms: float | None
    goodput: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return any(limit is not None for limit in (self.mean_ms, self.p95_ms, self.goodput))

    def met_by(self, run: RunFile) -> bool | None:
        """Whether a run is within it; None without a target. A failed request is infinitely slow."""
        if not self.is_set:
            return None
        good = None if run.tokens is None or run.tokens.goodput is None else run.tokens.goodput.share
        if self.goodput is not None and (good is None or good < self.goodput):
            return False
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
        device_ms=device_ms(run),
        tokens=run.tokens,
    )


def device_ms(run: RunFile) -> float | None:
    """Return how long this model's consumers computed for each answer; None where their metrics do not say. Pure."""
    found = [one for one in run.service.histograms or [] if _is_inference(one, run.configuration.model)]
    answered = run.validity.answered
    return sum(one.sum for one in found) * 1000 / answered if found and answered else None


def _is_inference(histogram: Histogram, model: str) -> bool:
    labels = histogram.labels
    return histogram.name == _STAGE and labels.get("model") == model and labels.get("stage") == "inference"


@dataclass
class Curve:
    """One model's points, measured one by one.

    Args:
        rates: to be tried in this order; None: search for the highest within the target.
        metrics: further addresses to read metrics from.
    """

    scenario: Scenario
    rates: tuple[float, ...] | None
    target: LatencyTarget
    rules: GateSettings
    say: Callable[[str], None]
    metrics: tuple[Target, ...] = ()
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    points: list[Point] = field(default_factory=list)
    card: dict[str, Any] | None = None
    code: int = EXIT_OK
    """Not 0 when it was cut short after the first point."""

    def step(self) -> bool:
        """Measure the next rate; returns whether there is another one.

        Raises:
            LoadgenError, KeyboardInterrupt: nothing was measured at the first rate.
        """
        rate = self._next()
        if rate is None or self.code != EXIT_OK:
            return False
        title = f"{self.scenario.model} at {number(rate, '/s')}"
        try:
            run, stopped_by = perform(
                replace(self.scenario, rate_per_s=rate),
                (self.scenario.target, *self.metrics),
                lambda: choose_progress(title),
            )
        except (LoadgenError, KeyboardInterrupt) as stop:  # the points measured so far are worth keeping
            if not self.points:
                raise
            if isinstance(stop, LoadgenError):
                click.echo(f"loadgen: {stop}", err=True)
            self.code = stop_code(stop)
            return False
        if stopped_by is not None:
            self.code = 128 + stopped_by
            return False
        self.card = run.service.card
        self._add(run, rate)
        return self._next() is not None

    def _next(self) -> float | None:
        if self.rates is None:
            least = _LEAST_REQUESTS / self.scenario.duration_s
            return next_rate(self.points, _FIRST_RATE_PER_S, least)
        return self.rates[len(self.points)] if len(self.points) < len(self.rates) else None

    def _add(self, run: RunFile, rate: float) -> None:
        point = point_of(run, rate, self.target, self.rules)
        self.points.append(point)
        fault = generators_fault(run, self.rules)
        verdict = f"  not counted: {fault}" if fault is not None else _verdict(point)
        failed = f"  {point.failed} failed" if point.failed else ""
        self.say(f"{number(rate, '/s'):>9}  {figures(point.latency)}{token_line(point.tokens)}{failed}{verdict}")

    def result(self) -> SweepFile:
        """Return the curve so far, in order of the rate."""
        good = [point.rate_per_s for point in self.points if point.fit and point.within]
        return SweepFile(
            format=FORMAT,
            version=VERSION,
            started_at=self.started_at,
            partial=self.code != EXIT_OK,
            url=self.scenario.target.shown,
            model=self.scenario.model,
            seed=self.scenario.seed,
            duration_s=self.scenario.duration_s,
            target_mean_ms=self.target.mean_ms,
            target_p95_ms=self.target.p95_ms,
            best_per_s=max(good, default=None),
            machine=describe_machine(),
            card=self.card,
            points=sorted(self.points, key=lambda point: point.rate_per_s),
            workload=self.scenario.workload,
            target_goodput=self.target.goodput,
        )


def curve_of(
    model: str,
    url: str,
    *,
    budgets_path: Path | None,
    rates: tuple[float, ...] | None,
    search: bool,
    mean_ms: float | None,
    p95_ms: float | None,
    goodput: float | None,
    metrics_urls: tuple[str, ...],
    say: Callable[[str], None],
    **options: Any,
) -> Curve:
    """Return the curve that the options ask for, of one model; nothing is measured yet.

    Raises:
        LoadgenError: usage.
    """
    budget, folder = model_budget(budgets_path, model)
    if budget is not None:
        mean_ms, p95_ms = mean_ms or budget.mean_ms, p95_ms or budget.p95_ms
        goodput = goodput or budget.goodput
    target = LatencyTarget(mean_ms, p95_ms, goodput)
    if search and not target.is_set:
        raise LoadgenError(
            f"--search needs a latency target or a goodput for {model}: --p95-ms, --mean-ms, --goodput or --budgets.",
            EXIT_USAGE,
        )
    if search == bool(rates):
        raise LoadgenError("Give either --rates or --search.", EXIT_USAGE)
    rules = read_budgets(budgets_path).gate if budgets_path else GateSettings()
    load = Load(model=model, rate=rates[0] if rates else _FIRST_RATE_PER_S, **options)
    key = api_key(os.environ, load.key_env)
    scenario = load.scenario(parse_target(url, key), budget, folder)
    metrics = tuple(parse_target(address.rstrip("/").removesuffix("/metrics"), key) for address in metrics_urls)
    return Curve(scenario, rates, target, rules, say, metrics)


def carry_out(*, url: str | None, model: str, out: Path, **options: Any) -> int:
    """Carry out `sweep` of one model and return its exit code.

    Raises:
        LoadgenError: usage, or nothing was measured.
    """
    path = files.prepare_folder(out, "sweep.json")
    if url is None:
        raise LoadgenError("Give --url, the address of a running service.", EXIT_USAGE)
    curve = curve_of(model, url, say=click.echo, **options)
    while curve.step():
        pass
    found = curve.result()
    files.write_atomically(path, files.encode(found))
    if curve.target.is_set:
        click.echo(f"Highest rate within the target: {number(found.best_per_s, '/s') if found.best_per_s else 'none'}")
    click.echo(f"written to {path}")
    return curve.code


def _verdict(point: Point) -> str:
    if point.within is None:
        return ""
    return "  within" if point.within and point.fit else "  beyond the target"

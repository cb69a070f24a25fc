"""Figures that compare models. Pure: curves in, figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from loadgen.gate.verdict import number
from loadgen.results.sweepfile import ModelSweep, SweepFile
from loadgen.results.sweepfile import Point as SweepPoint

from .comparison_figures import knee
from .figure import Axis, Figure, Point, Rule, Series, Tone, axis_from

TONES: Final[tuple[Tone, ...]] = ("one", "two", "three", "four")
_WIDE_RANGE: Final = 12.0
"""Rates that are further apart than this are shown on a logarithmic axis."""


def models_figures(models: Sequence[ModelSweep]) -> list[Figure]:
    """Return every figure that there are data for."""
    found = [_latency(models), _within_budget(models), _device(models)]
    return [figure for figure in found if figure is not None]


def bend(sweep: SweepFile) -> float | None:
    """Return the rate at which a curve turns away from flat; None where it does not."""
    return knee([point for point in sweep.points if point.latency.p95_ms is not None])


def _latency(models: Sequence[ModelSweep]) -> Figure | None:
    series, rules, values = [], [], []
    for model, tone in zip(models, TONES, strict=False):
        sweep = model.sweep
        points = tuple(
            Point(point.rate_per_s, point.latency.p95_ms, _told(sweep, point))
            for point in sweep.points
            if point.latency.p95_ms is not None
        )
        series.append(Series(sweep.model, "line", tone, points))
        values += [point.y for point in points]
        at = bend(sweep)
        if at is not None:
            rules.append(Rule("x", at, f"knee of {sweep.model}", tone))
    if not values:
        return None
    return Figure(
        "models",
        "95th percentile of the latency against rate",
        "Flat while there is capacity, steep once there is none. Failed requests are infinitely slow: a curve ends "
        "where more than one of twenty failed.",
        _rates(models),
        axis_from("ms", values, log=True),
        tuple(series),
        tuple(rules),
        height=360,
    )


def _told(sweep: SweepFile, point: SweepPoint) -> str:
    latency = point.latency
    named = (("p50", latency.p50_ms), ("p95", latency.p95_ms), ("p99", latency.p99_ms))
    figures = ", ".join(f"{name} {'infinite' if value is None else number(value, ' ms')}" for name, value in named)
    return f"{sweep.model} at {number(point.rate_per_s, '/s')}: {figures}"


def _rates(models: Sequence[ModelSweep]) -> Axis:
    rates = [point.rate_per_s for model in models for point in model.sweep.points]
    return axis_from("requests per second", rates, log=max(rates) > _WIDE_RANGE * min(rates))


def share_of_budget(sweep: SweepFile, point: SweepPoint) -> float | None:
    """Return how much of its budget a model needs at a rate, the fuller of mean and p95: 1 is all of it.

    None without a budget, infinite where requests failed so often that there is no figure.
    """
    pairs = ((point.latency.mean_ms, sweep.target_mean_ms), (point.latency.p95_ms, sweep.target_p95_ms))
    shares = [math.inf if value is None else value / limit for value, limit in pairs if limit]
    return max(shares, default=None)


def _within_budget(models: Sequence[ModelSweep]) -> Figure | None:
    series, values = [], [100.0]
    for model, tone in zip(models, TONES, strict=False):
        sweep = model.sweep
        shares = [(point.rate_per_s, share_of_budget(sweep, point)) for point in sweep.points]
        points = tuple(
            Point(rate, 100 * share, f"{sweep.model} at {number(rate, '/s')}: {share:.0%} of its budget")
            for rate, share in shares
            if share is not None and math.isfinite(share)
        )
        if any(share is not None for _, share in shares):  # named even if all of its requests failed
            series.append(Series(sweep.model, "line", tone, points))
            values += [point.y for point in points]
    if not series:
        return None
    return Figure(
        "budgets",
        "How much of its budget each model needs",
        "Mean or 95th percentile, whichever is nearer to its limit. Below the line a model keeps its budget.",
        _rates(models),
        axis_from("% of its own budget", values, log=True),
        tuple(series),
        (Rule("y", 100.0, "the budget"),),
    )


def device_ms_of(sweep: SweepFile) -> float | None:
    """Return how long the consumers computed for an answer, where batches were fullest within the budget; else None."""
    known = [point for point in sweep.points if point.device_ms is not None]
    good = [point for point in known if point.fit and point.within is not False]
    return (good or known)[-1].device_ms if known else None


def _device(models: Sequence[ModelSweep]) -> Figure | None:
    series, values = [], []
    for model, tone in zip(models, TONES, strict=False):
        sweep = model.sweep
        points = tuple(
            Point(point.rate_per_s, point.device_ms, f"{sweep.model}: {number(point.device_ms, ' ms')} for each answer")
            for point in sweep.points
            if point.device_ms is not None
        )
        if points:
            series.append(Series(sweep.model, "line", tone, points))
            values += [point.y for point in points]
    if not series:
        return None
    return Figure(
        "device",
        "Device time for each answer",
        "How long consumers computed, by their own clocks, for each answer. It falls with the rate where batches pay.",
        _rates(models),
        axis_from("ms of a device", values),
        tuple(series),
    )

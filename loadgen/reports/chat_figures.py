"""Which figures there are of a workload, in a run and in a sweep. Pure: results in, figures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from loadgen.budgets import ModelBudget, Percentiles
from loadgen.gate.verdict import number
from loadgen.results import token_figures
from loadgen.results.runfile import RunFile, Summary, TokenFigures
from loadgen.results.sweepfile import SweepFile

from .figure import Axis, Figure, Point, Rule, Series, Tone, axis_from, short

_STEPS = 60
_LEAST_MS = 0.01
"""A logarithmic axis has no 0, which is the time between tokens that came together."""
_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


def run_figures(run: RunFile, budget: ModelBudget | None) -> list[Figure]:
    """Return the figures of a run's chats; none of other runs."""
    if run.requests.tokens is None or run.tokens is None or run.tokens.goodput is None:
        return []
    ttfts = token_figures.ttfts_ms(run.requests, run.requests.planned_us)
    itls = [value for value in token_figures.itls_ms(run.requests) if value is not None]
    gaps = token_figures.worst_gaps_ms(run.requests)
    goal = run.tokens.goodput
    first = _distribution(
        "ttft",
        "Time to first token",
        "From the planned send time. Where a line ends before 100%, the rest of the requests failed.",
        [("time to first token", "one", ttfts)],
        goal.ttft_objective_ms,
        budget.ttft_ms if budget else None,
    )
    between = _distribution(
        "itl",
        "Time between tokens",
        "Each request's mean, and the longest time in which it showed nothing new; several tokens may come at once.",
        [("mean of a request", "one", itls), ("longest gap of a request", "two", gaps)],
        goal.itl_objective_ms,
        budget.itl_ms if budget else None,
    )
    return [figure for figure in (first, between) if figure is not None]


def _distribution(
    key: str,
    title: str,
    caption: str,
    named: Sequence[tuple[str, Tone, Sequence[float]]],
    objective_ms: float,
    budget: Percentiles | None,
) -> Figure | None:
    """Return how many requests had at most which time."""
    series = []
    for name, tone, values in named:
        ordered, count = sorted(values), len(values)
        ranks = sorted({round(step * (count - 1) / _STEPS) for step in range(_STEPS + 1)}) if count else []
        points = tuple(
            Point(
                (rank + 1) / count,
                max(ordered[rank], _LEAST_MS),
                f"{(rank + 1) / count:.1%}: {number(ordered[rank], ' ms')} {name}",
            )
            for rank in ranks
            if math.isfinite(ordered[rank])
        )
        series.append(Series(name, "line", tone, points))
    values = [point.y for one in series for point in one.points]
    if not values:
        return None
    limits = budget.limits if budget is not None else ()
    named_limits = {limit: f"p{share * 100:.0f} budget" for share, limit in limits}
    rules = [Rule("y", limit, f"{name} {short(limit)} ms") for limit, name in named_limits.items()]
    if objective_ms not in named_limits:
        rules.append(Rule("y", objective_ms, f"objective {short(objective_ms)} ms", "muted"))
    return Figure(
        key,
        title,
        caption,
        Axis("share of requests", 0.0, 1.04, ticks=tuple((share, f"{share:.0%}") for share in _SHARES)),
        axis_from("ms", [*values, *(rule.value for rule in rules)], log=True),
        tuple(series),
        tuple(rules),
    )


def sweep_figures(sweep: SweepFile) -> list[Figure]:
    """Return TTFT and ITL against the rate, and goodput against the rate; none of a sweep without chats."""
    known = [(point.rate_per_s, point.tokens) for point in sweep.points if point.tokens is not None]
    chats = [(rate, tokens) for rate, tokens in known if tokens.goodput is not None]
    if len(chats) < 2:
        return []
    goal = chats[0][1].goodput
    assert goal is not None
    objectives = (
        Rule("y", goal.ttft_objective_ms, f"TTFT objective {short(goal.ttft_objective_ms)} ms", "muted"),
        Rule("y", goal.itl_objective_ms, f"ITL objective {short(goal.itl_objective_ms)} ms", "muted"),
    )
    series = (
        _against_rate("TTFT p95", "one", chats, lambda tokens: _p95(tokens.ttft)),
        _against_rate("TTFT p50", "three", chats, lambda tokens: _p50(tokens.ttft)),
        _against_rate("ITL p95", "two", chats, lambda tokens: _p95(tokens.itl)),
        _against_rate("ITL p50", "four", chats, lambda tokens: _p50(tokens.itl)),
    )
    values = [point.y for one in series for point in one.points]
    rates = [rate for rate, _ in chats]
    times = Figure(
        "sweep-tokens",
        "Time to first token and between tokens, against rate",
        "TTFT grows when requests wait for a place, ITL when those that have one share the machine.",
        axis_from("requests per second", rates),
        axis_from("ms", [*values, *(rule.value for rule in objectives)], log=True),
        series,
        objectives,
        height=340,
    )
    return [times, _goodput(sweep, chats)]


def _goodput(sweep: SweepFile, chats: Sequence[tuple[float, TokenFigures]]) -> Figure:
    good = _against_rate(
        "good", "one", chats, lambda tokens: tokens.goodput.rate_per_s if tokens.goodput else None, "/s"
    )
    asked = tuple(Point(rate, rate, f"{number(rate, '/s')} asked for") for rate, _ in chats)
    series = [Series("asked for", "line", "four", asked), good]
    if sweep.target_goodput is not None:
        least = tuple(Point(rate, rate * sweep.target_goodput) for rate, _ in chats)
        series.append(Series(f"target, {sweep.target_goodput:.0%} of that", "line", "two", least))
    return Figure(
        "sweep-goodput",
        "Goodput against rate",
        "Requests a second that met both objectives. While the line follows what was asked for, nearly all did.",
        axis_from("requests per second", [rate for rate, _ in chats]),
        axis_from("good requests per second", [point.y for one in series for point in one.points]),
        tuple(series),
        height=340,
    )


def _against_rate(
    name: str,
    tone: Tone,
    chats: Sequence[tuple[float, TokenFigures]],
    value_of: Callable[[TokenFigures], float | None],
    unit: str = " ms",
) -> Series:
    points = tuple(
        Point(rate, value, f"{name} at {number(rate, '/s')}: {number(value, unit)}")
        for rate, tokens in chats
        if (value := value_of(tokens)) is not None
    )
    return Series(name, "line", tone, points)


def _p95(part: Summary | None) -> float | None:
    return None if part is None or part.p95_ms is None else max(part.p95_ms, _LEAST_MS)


def _p50(part: Summary | None) -> float | None:
    return None if part is None or part.p50_ms is None else max(part.p50_ms, _LEAST_MS)

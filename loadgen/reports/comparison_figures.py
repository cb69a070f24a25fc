"""Which figures there are of a comparison and of a sweep. Pure: results in, figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadgen.budgets import GateSettings
from loadgen.comparing import regression
from loadgen.gate.verdict import number, percent
from loadgen.results.comparefile import CompareFile
from loadgen.results.paired import interval
from loadgen.results.sweepfile import Point as SweepPoint
from loadgen.results.sweepfile import SweepFile

from .figure import Axis, Figure, Point, Rule, Series, Tone, axis_from, short


def paired_ratios(compare: CompareFile, settings: GateSettings) -> Figure | None:
    """Return each pair's ratio, and for each metric the mean with its interval and the margin."""
    rows: list[tuple[regression.Metric, int]] = []
    batches = sorted({pair.batch for pair in compare.pairs})
    for metric in regression.metrics_of(compare.pairs):
        rows += [(metric, batch) for batch in batches]
    dots: dict[Tone, list[Point]] = {"one": [], "two": []}
    middles, margins, values = [], [], [0.0]
    count = len(rows)
    for index, (metric, batch) in enumerate(rows):
        y = count - 0.5 - index
        pairs = [pair for pair in compare.pairs if pair.batch == batch]
        ratios = [value for pair in pairs if (value := regression.worsening(metric, pair)) is not None]
        for number_of, value in enumerate(ratios):
            spread = 0.3 * (number_of / max(len(ratios) - 1, 1) - 0.5)
            dots["one" if batch == 1 else "two"].append(
                Point(
                    100 * math.expm1(value),
                    y + spread,
                    f"{metric}, pair {number_of + 1}: {percent(math.expm1(value))} worse",
                )
            )
        if ratios:
            mean, low, high = (100 * math.expm1(min(value, 5.0)) for value in interval(ratios))
            middles.append(Point(mean, y, f"{metric}: {mean:+.1f}% ({low:+.1f}% to {high:+.1f}%)", low, high))
            values += [mean]
        limit = 100 * math.expm1(regression.margin(metric, settings))
        margins.append(Point(limit, y, f"margin of {metric}: {limit:.1f}%", y - 0.42, y + 0.42))
        values += [limit, *(point.x for point in dots["one"] + dots["two"])]
    if not middles:
        return None
    ticks = tuple(
        (count - 0.5 - index, metric if batch == 1 else f"{metric}, again")
        for index, (metric, batch) in enumerate(rows)
    )
    x = axis_from("% worse than the base", values, zero=False)
    named: list[tuple[str, Tone, list[Point]]] = [("pair", "one", dots["one"]), ("confirming pair", "two", dots["two"])]
    series = [Series(name, "dots", tone, tuple(points)) for name, tone, points in named if points]
    series.append(Series("mean and 95% interval", "intervals", "three", tuple(middles)))
    series.append(Series("margin", "posts", "bad", tuple(margins)))
    return Figure(
        "pairs",
        "Candidate against base",
        "Each dot is one pair of windows measured right after one another; right of the middle the candidate is worse. "
        "A regression is a mean beyond the margin that is not chance, twice.",
        Axis(x.label, x.low, x.high),
        Axis("", 0.0, float(count), ticks=ticks),
        tuple(series),
        (Rule("x", 0.0, "", "muted"),),
        height=80 + 46 * count,
    )


def hockey_stick(sweep: SweepFile) -> Figure | None:
    """Return latency against rate, with the target and the knee."""
    fit = [point for point in sweep.points if point.latency.p50_ms is not None]
    if len(fit) < 2:
        return None
    named: tuple[tuple[str, str, Tone], ...] = (
        ("p99", "p99_ms", "four"), ("p95", "p95_ms", "one"), ("mean", "mean_ms", "two"), ("p50", "p50_ms", "three"),
    )  # fmt: skip
    series = []
    for name, attribute, tone in named:
        points = tuple(
            Point(point.rate_per_s, value, f"{name} at {number(point.rate_per_s, '/s')}: {number(value, ' ms')}")
            for point in fit
            if (value := getattr(point.latency, attribute)) is not None
        )
        series.append(Series(name, "line", tone, points))
    rules = []
    if sweep.target_p95_ms is not None:
        rules.append(Rule("y", sweep.target_p95_ms, f"p95 budget {short(sweep.target_p95_ms)} ms"))
    if sweep.target_mean_ms is not None:
        rules.append(Rule("y", sweep.target_mean_ms, f"mean budget {short(sweep.target_mean_ms)} ms"))
    bend = knee(fit)
    if bend is not None:
        rules.append(Rule("x", bend, f"knee {short(bend)}/s", "muted"))
    values = [point.y for one in series for point in one.points]
    return Figure(
        "sweep",
        "Latency against rate",
        "Flat while there is capacity, steep once there is none. The knee is where the curve turns away from flat.",
        axis_from("requests per second", [point.rate_per_s for point in fit]),
        axis_from("ms", [*values, *(rule.value for rule in rules if rule.axis == "y")], log=True),
        tuple(series),
        tuple(rules),
        height=340,
    )


def knee(points: Sequence[SweepPoint]) -> float | None:
    """Return the rate at which the p95 curve lies farthest below the straight line between its ends, or None.

    Both axes scaled to 0 to 1, latency logarithmic (Satopää et al. 2011, "Finding a Kneedle in a Haystack").
    """
    curve = [(point.rate_per_s, math.log(point.latency.p95_ms)) for point in points if point.latency.p95_ms]
    if len(curve) < 4:
        return None
    (x0, y0), (x1, y1) = curve[0], curve[-1]
    if x1 <= x0 or y1 - y0 < math.log(2):  # it never became steep
        return None
    depth = [((x - x0) / (x1 - x0) - (y - y0) / (y1 - y0), x) for x, y in curve]
    deepest, rate = max(depth)
    return rate if deepest > 0.15 else None

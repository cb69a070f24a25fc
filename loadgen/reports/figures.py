"""Which figures there are of a run. Pure: results in, figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadgen.budgets import ModelBudget
from loadgen.gate.verdict import number
from loadgen.results import stats, summary
from loadgen.results.runfile import Histogram, RunFile

from .figure import Axis, Figure, Point, Rule, Series, Tone, axis_from, short

_MOST_DOTS = 1500
_SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)
_STAGES = (
    ("headrace_queue_wait_seconds", None, "in the stream"),
    ("headrace_batch_wait_seconds", None, "waiting for the batch"),
    ("headrace_stage_duration_seconds", "decode", "of that: decode"),
    ("headrace_stage_duration_seconds", "inference", "inference"),
    ("headrace_stage_duration_seconds", "postprocess", "postprocess"),
    ("headrace_stage_duration_seconds", "commit", "commit"),
    ("headrace_transport_seconds", None, "Redis and network"),
)


def run_figures(run: RunFile, budget: ModelBudget | None) -> list[Figure]:
    """Return the figures of one run; those whose data are missing are left out."""
    found = [percentiles(run, budget), timeline(run, budget), batch_sizes(run), stages(run)]
    return [figure for figure in found if figure is not None]


def _budget_rules(budget: ModelBudget | None) -> tuple[Rule, ...]:
    if budget is None or budget.p95_ms is None:
        return ()
    return (Rule("y", budget.p95_ms, f"p95 budget {short(budget.p95_ms)} ms"),)


def percentiles(run: RunFile, budget: ModelBudget | None) -> Figure | None:
    """Return latency by percentile, the x axis stretched towards 100% as in an HDR histogram's plot."""
    series = []
    both: tuple[tuple[str, Sequence[int | None], Tone], ...] = (
        ("from the planned time", run.requests.planned_us, "one"),
        ("from the sent time", run.requests.sent_us, "two"),
    )
    for name, since, tone in both:
        ordered = sorted(summary.latencies_ms(run.requests, since))
        count = len(ordered)
        if not count:
            return None
        ranks = sorted({min(count - 1, round(count * (1 - 10 ** (-step / 12)))) for step in range(61)} | {count - 1})
        points = [(1 / (1 - min(rank / count, 1 - 0.5 / count)), ordered[rank]) for rank in ranks]
        series.append(
            Series(name, "line", tone, tuple(
                Point(x, y, f"{1 - 1 / x:.4%}: {number(y, ' ms')} {name}") for x, y in points if math.isfinite(y)
            ))
        )  # fmt: skip
    values = [point.y for one in series for point in one.points]
    if not values:
        return None
    last = 2.0 * len(run.requests.planned_us)
    ticks = tuple((1 / (1 - share), f"{share * 100:g}%") for share in _SHARES if 1 / (1 - share) <= last)
    rules = _budget_rules(budget)
    if budget is not None and budget.p95_ms is not None:
        rules = (*rules, Rule("x", 20.0, "", "muted"))
    return Figure(
        "percentiles",
        "Latency by percentile",
        "Every request of the run; failures lie beyond the right end. Where the two lines part, the service's pauses "
        "kept requests waiting before they could be sent.",
        Axis("share of requests", 1.0, max(last, 20.0), log=True, ticks=ticks),
        axis_from("ms", [*values, *(rule.value for rule in rules if rule.axis == "y")]),
        tuple(series),
        rules,
    )


def timeline(run: RunFile, budget: ModelBudget | None) -> Figure | None:
    """Return latency over time: each request as a dot, or each second's percentiles for long runs."""
    requests = run.requests
    latencies = summary.latencies_ms(requests, requests.planned_us)
    if not latencies:
        return None
    finite = [
        (at / 1e6, value) for at, value in zip(requests.planned_us, latencies, strict=True) if math.isfinite(value)
    ]
    top = max((value for _, value in finite), default=1.0)
    rules = _budget_rules(budget)
    y = axis_from("ms", [top, *(rule.value for rule in rules)])
    step = max(1, -(-len(finite) // _MOST_DOTS))
    shown = (
        sorted(finite, key=lambda pair: -pair[1])[: _MOST_DOTS // 5] + finite[::step]
    )  # the slow ones are never left out
    dots = tuple(Point(at, value, f"at {at:.2f} s: {number(value, ' ms')}") for at, value in sorted(set(shown)))
    failed = tuple(
        Point(at / 1e6, y.high * 0.985, f"at {at / 1e6:.2f} s: failed")
        for at, value in zip(requests.planned_us, latencies, strict=True)
        if math.isinf(value)
    )
    seconds = tuple(
        Point(
            window.start_s + 0.5, window.p50_ms, f"second {window.start_s:.0f}: median {number(window.p50_ms, ' ms')}"
        )
        for window in run.windows
        if window.p50_ms is not None
    )
    series = [Series("request", "dots", "one", dots), Series("median of each second", "line", "two", seconds)]
    if failed:
        series.append(Series("failed", "dots", "bad", failed[:_MOST_DOTS]))
    return Figure(
        "timeline",
        "Latency over time",
        "When each request was planned, and how long it took from then.",
        Axis("seconds", 0.0, run.configuration.duration_s),
        y,
        tuple(series),
        rules,
    )


def batch_sizes(run: RunFile) -> Figure | None:
    """Return how many batches had how many rows."""
    found = _histogram(run, "headrace_batch_size", None)
    if found is None:
        return None
    counts, before = [], 0.0
    edges: list[float] = []
    for bucket in found.buckets:
        counts.append(bucket.count - before)
        edges.append(math.inf if bucket.le is None else bucket.le)
        before = bucket.count
    while len(counts) > 1 and not counts[-1]:
        counts.pop()
    labels = [_range(edges[index - 1] if index else None, edges[index]) for index in range(len(counts))]
    ticks = tuple((index + 0.5, label) for index, label in enumerate(labels))
    points = tuple(
        Point(index + 0.5, count, f"{labels[index]} rows: {count:,.0f} batches") for index, count in enumerate(counts)
    )
    return Figure(
        "batches",
        "Batch sizes",
        f"{found.count:,.0f} batches, {number(found.mean, '')} rows on average. Batches grow with the load.",
        Axis("rows in a batch", 0.0, float(len(counts)), ticks=ticks),
        axis_from("batches", list(counts)),
        (Series("batches", "bars", "one", points),),
    )


def _range(below: float | None, edge: float) -> str:
    """Write which whole numbers a bucket holds: `4`, `5 to 8`, `over 64`."""
    if math.isinf(edge):
        return f"over {short(below or 0)}"
    return short(edge) if below is None or edge - below <= 1 else f"{short(below + 1)} to {short(edge)}"


def stages(run: RunFile) -> Figure | None:
    """Return the mean time of each part of a request's way, as the service's own histograms have it."""
    rows = []
    for name, stage, label in _STAGES:
        found = _histogram(run, name, stage)
        if found is not None and found.mean is not None:
            per = "batch" if stage not in (None, "decode") else "request"
            rows.append((label, found.mean * 1000, f"{label}: {number(found.mean * 1000, ' ms')} per {per}"))
    if not rows:
        return None
    count = len(rows)
    points = tuple(Point(value, count - 0.5 - index, text) for index, (_, value, text) in enumerate(rows))
    ticks = tuple((count - 0.5 - index, label) for index, (label, _, _) in enumerate(rows))
    return Figure(
        "stages",
        "Where the time goes",
        "Means by the service's own clocks. Inference, postprocess and commit are per batch, the others per request.",
        axis_from("ms, mean", [value for _, value, _ in rows], room=0.3),
        Axis("", 0.0, float(count), ticks=ticks),
        (Series("mean", "rows", "one", points),),
        height=60 + 34 * count,
    )


def _histogram(run: RunFile, name: str, stage: str | None) -> Histogram | None:
    """Return a histogram of this model; those of several consumers are added up."""
    found = [
        one
        for one in run.service.histograms or []
        if one.name == name
        and one.labels.get("model", run.configuration.model) == run.configuration.model
        and (stage is None or one.labels.get("stage") == stage)
    ]
    if not found:
        return None
    total = found[0]
    for other in found[1:]:
        count, amount = total.count + other.count, total.sum + other.sum
        buckets = [
            type(left)(left.le, left.count + right.count)
            for left, right in zip(total.buckets, other.buckets, strict=False)
        ]
        total = Histogram(name, total.labels, count, amount, amount / count if count else None, buckets)
    return total


def mean_and_p95(run: RunFile) -> tuple[float, float] | None:
    """Return mean and p95 from the planned time; None when nothing was measured."""
    latencies = sorted(summary.latencies_ms(run.requests, run.requests.planned_us))
    return (stats.mean(latencies), stats.percentile(latencies, 0.95)) if latencies else None

"""Is the candidate slower than the base? The decision on paired windows; see `docs/performance-gate.md`. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from loadgen.budgets import GateSettings
from loadgen.results.comparefile import Pair, Window
from loadgen.results.paired import holm, interval, sign_flip_p

ALPHA: Final = 0.01
"""Chance of a false flag in the first batch, over all metrics together."""
CONFIRM_ALPHA: Final = 0.05
"""Chance of a false flag in the second batch, which is measured only after one in the first."""

Metric = Literal["mean", "p95", "throughput", "TTFT", "ITL", "goodput"]
METRICS: Final[tuple[Metric, ...]] = ("mean", "p95", "throughput")
"""Of every comparison."""
_CHAT: Final[tuple[Metric, ...]] = ("TTFT", "ITL", "goodput")
UPWARDS: Final = ("throughput", "goodput")
"""More is better."""
_LEAST_GOODPUT: Final = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """What one batch of pairs says on one metric.

    `change` is the relative change of the metric from base to candidate, as in +0.10 for ten percent more; `low` and
    `high` are the ends of its 95% interval. `p` is corrected for the number of metrics. `half_width` is half the
    interval of the logarithm, `worse` whether the change is beyond the margin in the bad direction.
    """

    metric: Metric
    pairs: int
    change: float
    low: float
    high: float
    half_width: float
    p: float
    worse: bool
    flagged: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What a comparison says.

    `clear`: no regression; `suspicion`: flagged, and the second batch does not confirm it; `incomplete`: flagged, and
    there is no whole second batch; `noisy`: no flag, or none that was confirmed, and known too badly to say that there
    is nothing to flag.
    """

    outcome: Literal["clear", "suspicion", "regression", "noisy", "incomplete"]
    first: tuple[Finding, ...]
    second: tuple[Finding, ...]

    @property
    def regressed(self) -> tuple[Finding, ...]:
        """The findings that were flagged in both batches, as the second batch has them."""
        return tuple(finding for finding in self.second if finding.flagged) if self.outcome == "regression" else ()

    @property
    def last(self) -> tuple[Finding, ...]:
        """The finding that decides on each metric: the second batch's where there is one."""
        return tuple({finding.metric: finding for finding in (*self.first, *self.second)}.values())


def metrics_of(pairs: Sequence[Pair]) -> tuple[Metric, ...]:
    """Return what is judged: of chats also the means of TTFT and ITL, and the goodput, where windows have them."""
    windows = [window for pair in pairs for window in (pair.base, pair.candidate)]
    return METRICS + tuple(metric for metric in _CHAT if any(_figure(metric, window) is not None for window in windows))


def worsening(metric: Metric, pair: Pair) -> float | None:
    """Return the log ratio of a pair, positive when the candidate is worse; None when a window has no figure."""
    base, candidate = _figure(metric, pair.base), _figure(metric, pair.candidate)
    if not base or not candidate or base <= 0 or candidate <= 0:
        return None
    ratio = math.log(candidate / base)
    return -ratio if metric in UPWARDS else ratio


def _figure(metric: Metric, window: Window) -> float | None:
    return {
        "mean": window.mean_ms,
        "p95": window.p95_ms,
        "throughput": window.throughput_per_s,
        "TTFT": window.ttft_ms,
        "ITL": window.itl_ms,
        # A ratio needs something above 0, and a service without a good request has to look as bad as it is.
        "goodput": None if window.goodput is None else max(window.goodput, _LEAST_GOODPUT),
    }[metric]


def margin(metric: Metric, settings: GateSettings) -> float:
    """Return the log ratio beyond which a worsening counts as a regression."""
    relative = relative_margin(metric, settings)
    return -math.log1p(relative) if relative < 0 else math.log1p(relative)


def relative_margin(metric: Metric, settings: GateSettings) -> float:
    """Return the relative change beyond which a metric counts as worse; below 0 where more is better."""
    return {
        "mean": settings.mean_margin,
        "p95": settings.p95_margin,
        "throughput": -settings.throughput_margin,
        "TTFT": settings.ttft_margin,
        "ITL": settings.itl_margin,
        "goodput": -settings.goodput_margin,
    }[metric]


def findings(
    pairs: Sequence[Pair], settings: GateSettings, alpha: float, metrics: Sequence[Metric] | None = None
) -> tuple[Finding, ...]:
    """Judge one batch: flagged is what is beyond its margin and, after Holm's correction, not chance at `alpha`.

    Args:
        metrics: what is judged; None: all that the pairs have.
    """
    metrics = metrics_of(pairs) if metrics is None else metrics
    columns = [[value for pair in pairs if (value := worsening(metric, pair)) is not None] for metric in metrics]
    # Pairs that are all alike have a p of 1 whatever their signs, so they are no question that was asked as well.
    asked = [number for number, values in enumerate(columns) if any(values)]
    adjusted = [1.0] * len(columns)
    for number, corrected in zip(asked, holm([sign_flip_p(columns[number]) for number in asked]), strict=True):
        adjusted[number] = corrected
    found = []
    for metric, values, p in zip(metrics, columns, adjusted, strict=True):
        mean, low, high = interval(values)
        sign = -1 if metric in UPWARDS else 1
        ends = sorted(_relative(sign * value) for value in (low, high))
        worse = mean > margin(metric, settings)
        flagged = worse and p <= alpha
        half = (high - low) / 2
        found.append(Finding(metric, len(values), _relative(sign * mean), ends[0], ends[1], half, p, worse, flagged))
    return tuple(found)


def _relative(log_ratio: float) -> float:
    return math.inf if log_ratio > 700 else math.expm1(log_ratio)


def wants_more(pairs: Sequence[Pair], settings: GateSettings) -> bool:
    """Whether a batch must go on: it is not whole, or too noisy and not yet at its most. Never looks at the ratio."""
    if len(pairs) < settings.pairs:
        return True
    return len(pairs) < settings.most_pairs and is_noisy(findings(pairs, settings, ALPHA), settings)


def is_noisy(found: Sequence[Finding], settings: GateSettings) -> bool:
    """Whether any metric is known no better than within `too_noisy`."""
    limit = math.log1p(settings.too_noisy)
    return any(finding.half_width > limit for finding in found)


def decide(pairs: Sequence[Pair], settings: GateSettings) -> Decision:
    """Decide on all pairs of a comparison.

    A flag of the first batch must be raised again by the second, on the same metric, with pairs that had no part in
    raising it. Where no regression is found, each metric must be known well enough to trust that there is none: from
    the second batch where the first flagged it, else from the first.
    """
    batches = [[pair for pair in pairs if pair.batch == number] for number in (1, 2)]
    first = findings(batches[0], settings, ALPHA)
    flagged = [finding.metric for finding in first if finding.flagged]
    if not flagged:
        return Decision("noisy" if is_noisy(first, settings) else "clear", first, ())
    if len(batches[1]) < settings.pairs:
        return Decision("incomplete", first, ())
    second = findings(batches[1], settings, CONFIRM_ALPHA, flagged)
    if any(finding.flagged for finding in second):
        return Decision("regression", first, second)
    decision = Decision("suspicion", first, second)
    return replace(decision, outcome="noisy") if is_noisy(decision.last, settings) else decision

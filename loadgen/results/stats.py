"""Exact figures from latencies. Pure; a request that failed has infinite latency and is never left out silently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

SHARE: Final = 0.95
CONFIDENCE: Final = 0.99
"""What the gate claims, and how surely: that so large a share of requests is within its budget."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value with at least `share` of all values at or below it (nearest rank, no interpolation).

    Args:
        ordered: ascending, not empty; may end in infinities.
        share: in (0, 1], for example 0.95.
    """
    # The rank is rounded first: 0.95 * 100 is 95.00000000000001 in some spellings, and its ceiling would be 96.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of a sequence that is not empty; infinite as soon as one value is."""
    return fmean(values)


def allowed_over(count: int, share: float = SHARE) -> int | None:
    """Return how many of `count` requests may exceed a latency while "its percentile is within" can still be claimed.

    The claim is "the `share` quantile of the service's latency lies within the budget". If it did not, each request
    would exceed the budget with probability of at least q = 1 - share, and the number of those that do, X, would be
    at least as large as a binomial one. So the claim holds with `CONFIDENCE` when seeing k or fewer would be unlikely:

        P(X <= k) = sum over i = 0..k of C(n, i) q^i (1 - q)^(n - i)  <=  1 - CONFIDENCE

    The largest such k is returned: the exact one-sided test of a quantile (Clopper and Pearson 1934; MLPerf
    Inference's early stopping rule is of the same kind). None when even k = 0 proves nothing, which is so for fewer
    than ln(0.01) / ln(0.95) = 89.8 requests at 95% and 99%. Of 500 requests 13 may exceed, of 1,000, 34.
    """
    risk = 1.0 - CONFIDENCE
    log_q, log_p, log_count = math.log(1.0 - share), math.log(share), math.lgamma(count + 1)
    cumulative, allowed = 0.0, None
    for k in range(count + 1):
        # Logarithms, since (1 - q)^n underflows from some 14,500 requests on.
        log_term = log_count - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_q + (count - k) * log_p
        cumulative += math.exp(log_term)
        if cumulative > risk:
            break
        allowed = k
    return allowed


def smallest_count(share: float = SHARE) -> int:
    """Return the least number of requests from which a claim is possible at all (90 for a p95, 459 for a p99)."""
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log(share))

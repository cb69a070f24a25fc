"""When each request is due, and which payload it carries. Pure: a seed in, the whole plan out.

Arrivals and payload order draw from separate random streams of one seed, so changing the payloads does not move the
arrivals, and changing the rate does not reorder the payloads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal

Arrivals = Literal["poisson", "constant", "gamma"]


def request_count(rate_per_s: float, duration_s: float) -> int:
    """Number of requests planned for `duration_s` seconds at `rate_per_s`, rounded to the nearest."""
    return round(rate_per_s * duration_s)


def plan_arrivals(
    arrivals: Arrivals,
    rate_per_s: float,
    duration_s: float,
    seed: int,
    stream: str = "arrivals",
    burstiness: float = 1.0,
    rate_end_per_s: float | None = None,
) -> list[float]:
    """Return the due times in seconds from the start, ascending, each in [0, duration_s).

    `poisson` is a Poisson process conditioned on its count: given that n events fell into an interval, their times are
    n independent uniform draws, sorted (Ross, Introduction to Probability Models, section on the conditional
    distribution of arrival times). Gaps are as irregular as in an unconditioned process, and every seed gives the
    same number of requests, so "was the rate reached" has an exact answer. `constant` spaces requests evenly. `gamma`
    has gaps from a gamma distribution whose standard deviation is `burstiness` times their mean, scaled so that the
    planned number of requests fits the interval; with 1 it is the Poisson process again (n + 1 exponential gaps divided
    by their sum are the spacings of n uniform draws), above 1 requests come in bunches.

    Args:
        rate_end_per_s: makes a ramp: the rate goes evenly from `rate_per_s` to this. The times drawn for a constant
            rate are moved to where the same share of all requests has come.
        stream: names the random stream; the warm-up uses its own, so its length never moves the measured arrivals.
    """
    end = rate_per_s if rate_end_per_s is None else rate_end_per_s
    count = request_count((rate_per_s + end) / 2, duration_s)
    shares = _shares(arrivals, count, random.Random(f"{stream}:{seed}"), burstiness)
    if end == rate_per_s:
        return [share * duration_s for share in shares]
    return [_ramp_time(share, rate_per_s / end) * duration_s for share in shares]


def _shares(arrivals: Arrivals, count: int, rng: random.Random, burstiness: float) -> list[float]:
    if arrivals == "constant":
        return [index / count for index in range(count)]
    if arrivals == "poisson":
        return sorted(rng.random() for _ in range(count))
    shape = 1.0 / burstiness**2
    sums = list(accumulate(rng.gammavariate(shape, 1.0) for _ in range(count + 1)))
    return [total / sums[-1] for total in sums[:-1]]


def _ramp_time(share: float, ratio: float) -> float:
    """Return the time in [0, 1) by which `share` of a ramp's requests have come; it begins at `ratio` times its end.

    With the rate r + (1 - r) t, the share is (r t + (1 - r) t^2 / 2) / ((r + 1) / 2); solved for t.
    """
    total, slope = (ratio + 1) / 2, (1 - ratio) / 2
    return min(2 * share * total / (ratio + math.sqrt(ratio**2 + 4 * slope * share * total)), math.nextafter(1, 0))


def payload_cycle(payload_count: int, seed: int) -> Iterator[int]:
    """Yield payload indices for ever: every payload once per round, each round in a fresh seeded order."""
    rng = random.Random(f"payloads:{seed}")
    order = list(range(payload_count))
    while True:
        rng.shuffle(order)
        yield from order

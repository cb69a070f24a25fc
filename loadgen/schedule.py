"""When each request is due, and which payload it carries. Pure: a seed in, the whole plan out.

Arrivals and payload order draw from separate random streams of one seed, so changing the payloads does not move the
arrivals, and changing the rate does not reorder the payloads.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Literal

Arrivals = Literal["poisson", "constant"]


def request_count(rate_per_s: float, duration_s: float) -> int:
    """Number of requests planned for `duration_s` seconds at `rate_per_s`, rounded to the nearest."""
    return round(rate_per_s * duration_s)


def plan_arrivals(
    arrivals: Arrivals, rate_per_s: float, duration_s: float, seed: int, stream: str = "arrivals"
) -> list[float]:
    """Return the due times in seconds from the start, ascending, each in [0, duration_s).

    `poisson` is a Poisson process conditioned on its count: given that n events fell into an interval, their times are
    n independent uniform draws, sorted (Ross, Introduction to Probability Models, section on the conditional
    distribution of arrival times). Gaps are as irregular as in an unconditioned process, and every seed gives the
    same number of requests, so "was the rate reached" has an exact answer. `constant` spaces requests evenly.

    Args:
        stream: names the random stream; the warm-up uses its own, so its length never moves the measured arrivals.
    """
    count = request_count(rate_per_s, duration_s)
    if arrivals == "constant":
        return [index * duration_s / count for index in range(count)]
    uniform = random.Random(f"{stream}:{seed}").random
    return sorted(uniform() * duration_s for _ in range(count))


def payload_cycle(payload_count: int, seed: int) -> Iterator[int]:
    """Yield payload indices for ever: every payload once per round, each round in a fresh seeded order."""
    rng = random.Random(f"payloads:{seed}")
    order = list(range(payload_count))
    while True:
        rng.shuffle(order)
        yield from order


def plan_payloads(payload_count: int, count: int, seed: int) -> list[int]:
    """Return the payload index of each of `count` requests."""
    return list(islice(payload_cycle(payload_count, seed), count))

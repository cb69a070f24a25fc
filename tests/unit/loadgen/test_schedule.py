"""The plan of a run: complete, in order, repeatable, and with streams that do not disturb each other."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from math import dist, sqrt
from statistics import fmean

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.schedule import Arrivals, payload_cycle, plan_arrivals, request_count

KINDS = st.sampled_from(["poisson", "constant"])
RATES = st.floats(0.1, 500)
DURATIONS = st.floats(0.1, 5)
SEEDS = st.integers()


@settings(deadline=None)
@given(KINDS, RATES, DURATIONS, SEEDS)
def test_every_planned_request_lies_in_the_measured_time_and_in_order(
    kind: Arrivals, rate_per_s: float, duration_s: float, seed: int
) -> None:
    due = plan_arrivals(kind, rate_per_s, duration_s, seed)
    assert len(due) == request_count(rate_per_s, duration_s)
    assert all(0 <= at <= duration_s for at in due)
    assert due == sorted(due)


@settings(deadline=None)
@given(KINDS, RATES, DURATIONS, SEEDS)
def test_a_seed_gives_the_same_plan_again(kind: Arrivals, rate_per_s: float, duration_s: float, seed: int) -> None:
    assert plan_arrivals(kind, rate_per_s, duration_s, seed) == plan_arrivals(kind, rate_per_s, duration_s, seed)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 300), SEEDS)
def test_payloads_are_used_evenly(payloads: int, count: int, seed: int) -> None:
    used = Counter(islice(payload_cycle(payloads, seed), count))
    assert used.total() == count
    assert max(used.values(), default=0) - min((used[index] for index in range(payloads)), default=0) <= 1


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 100), SEEDS)
def test_a_seed_gives_the_same_order_again(payloads: int, count: int, seed: int) -> None:
    first, second = (list(islice(payload_cycle(payloads, seed), count)) for _ in range(2))
    assert first == second


def test_other_seeds_and_streams_give_other_arrivals() -> None:
    plans = [plan_arrivals("poisson", 100, 1, seed, stream) for seed in (1, 2) for stream in ("arrivals", "warmup")]
    assert len({tuple(plan) for plan in plans}) == 4


def test_poisson_gaps_are_exponential_and_constant_ones_equal() -> None:
    """An exponential distribution's standard deviation equals its mean, and 1/e of it lies above the mean."""
    gaps = [later - earlier for earlier, later in pairwise(plan_arrivals("poisson", 1000, 10, seed=7))]
    mean = fmean(gaps)
    deviation = dist(gaps, [mean] * len(gaps)) / sqrt(len(gaps))
    assert 0.95 < deviation / mean < 1.05
    assert 0.35 < sum(gap > mean for gap in gaps) / len(gaps) < 0.39
    even = [later - earlier for earlier, later in pairwise(plan_arrivals("constant", 1000, 2, seed=7))]
    assert max(even) - min(even) < 1e-9

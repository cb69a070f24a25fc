"""Percentiles, and the number of slow requests that a certified percentile allows."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.results import stats


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1).map(sorted), st.floats(0.001, 1))
def test_a_percentile_is_the_smallest_value_that_covers_the_share(ordered: list[float], share: float) -> None:
    value = stats.percentile(ordered, share)
    assert value in ordered
    covered = sum(other <= value for other in ordered)
    assert covered >= share * len(ordered) - 1e-6
    below = sum(other < value for other in ordered)
    assert below < share * len(ordered) + 1e-6


def test_percentiles_of_a_hundred_values() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [stats.percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99, 1)] == [50, 90, 95, 99, 100]


def test_one_infinite_value_makes_the_mean_infinite() -> None:
    assert stats.mean([1.0, math.inf]) == math.inf
    assert stats.mean([1.0, 3.0]) == 2.0


@pytest.mark.parametrize(("count", "allowed"), [(0, None), (1, None), (89, None), (90, 0), (500, 13), (1000, 34)])
def test_allowed_requests_over_the_budget(count: int, allowed: int | None) -> None:
    assert stats.allowed_over(count) == allowed


@pytest.mark.parametrize("count", [90, 137, 500, 1000])
def test_allowed_requests_against_exact_arithmetic(count: int) -> None:
    """The same sum in fractions: k is allowed, k + 1 is not."""
    q = Fraction(1, 20)

    def cumulative(k: int) -> Fraction:
        return sum((math.comb(count, i) * q**i * (1 - q) ** (count - i) for i in range(k + 1)), Fraction(0))

    allowed = stats.allowed_over(count)
    assert allowed is not None
    assert cumulative(allowed) <= Fraction(1, 100) < cumulative(allowed + 1)


def test_many_requests_neither_underflow_nor_lose_the_claim() -> None:
    allowed = stats.allowed_over(200_000)
    assert allowed is not None
    assert 0.047 < allowed / 200_000 < 0.05


def test_smallest_count_is_where_claims_begin() -> None:
    assert stats.smallest_count() == 90

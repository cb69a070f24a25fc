"""The statistics of pairs, against the plain definitions and against published values."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.results.paired import holm, interval, sign_flip_p, t_cdf, t_quantile

LOG_RATIOS = st.lists(st.floats(-2, 2), max_size=9)


@given(LOG_RATIOS)
def test_the_exact_test_counts_every_choice_of_signs(values: list[float]) -> None:
    observed = math.fsum(values)
    choices = list(itertools.product((1, -1), repeat=len(values)))
    slack = 1e-9
    as_large = sum(
        math.fsum(s * v for s, v in zip(choice, values, strict=True)) >= observed - slack for choice in choices
    )
    larger = sum(math.fsum(s * v for s, v in zip(choice, values, strict=True)) > observed + slack for choice in choices)
    # Sums that differ by rounding only may fall on either side.
    assert larger / len(choices) <= sign_flip_p(values) <= as_large / len(choices)


@given(LOG_RATIOS)
def test_a_worse_candidate_never_has_a_larger_p(values: list[float]) -> None:
    assert sign_flip_p([abs(value) for value in values]) <= sign_flip_p(values) + 1e-12


@pytest.mark.parametrize(("count", "smallest"), [(0, 1.0), (1, 0.5), (9, 2**-9), (20, 2**-20), (40, 2**-40)])
def test_the_smallest_p(count: int, smallest: float) -> None:
    assert sign_flip_p([0.1 + number / 1000 for number in range(count)]) == smallest


def test_equal_sides_are_no_evidence() -> None:
    assert sign_flip_p([0.0] * 10) == 1.0
    with pytest.raises(ValueError, match="at most 40"):
        sign_flip_p([0.1] * 41)


def test_holm() -> None:
    """Worked by hand: 0.01 x 3; then the larger of that and 0.03 x 2; then the larger of that and 0.04 x 1."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_only_makes_p_values_larger_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(before <= after <= 1 for before, after in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 9, 2.262),
        (0.975, 19, 2.093),
        (0.995, 9, 3.250),
        (0.95, 30, 1.697),
    ],
)
def test_quantiles_of_student_t(probability: float, degrees: int, expected: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(expected, abs=5e-4)
    assert t_cdf(t_quantile(probability, degrees), degrees) == pytest.approx(probability)


def test_intervals() -> None:
    mean, low, high = interval([0.1, 0.2, 0.15])
    assert (mean, low, high) == pytest.approx((0.15, 0.02579, 0.27421), abs=1e-4)
    assert interval([0.1])[1:] == (-math.inf, math.inf)
    assert interval([]) == (0.0, -math.inf, math.inf)

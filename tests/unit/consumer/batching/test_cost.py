"""The cost model: it finds what a batch costs in noisy times, and never believes in nonsense."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.cost import BatchCost

per_row_s = st.floats(1e-6, 0.1)
fixed_s = st.floats(1e-6, 0.1)


def learn(run_s: Callable[[int, random.Random], float], batches: int) -> BatchCost:
    rng = random.Random(1)
    cost = BatchCost()
    for _ in range(batches):
        rows = any_size(rng)
        cost.observe(rows, run_s(rows, rng))
    return cost


def any_size(rng: random.Random) -> int:
    return rng.randint(1, 32)


def test_nothing_is_known_at_first() -> None:
    assert BatchCost().run_s(32) == 0.0


@given(per_row_s, fixed_s)
def test_both_parts_are_found_in_noise(per_row_s: float, fixed_s: float) -> None:
    cost = learn(lambda rows, rng: (per_row_s * rows + fixed_s) * rng.uniform(0.95, 1.05), 200)
    for rows in (1, 8, 32):
        assert cost.run_s(rows) == pytest.approx(per_row_s * rows + fixed_s, rel=0.1)


@given(per_row_s, fixed_s)
def test_both_parts_are_exact_without_noise(per_row_s: float, fixed_s: float) -> None:
    cost = BatchCost((rows, per_row_s * rows + fixed_s) for rows in (1, 2, 4, 8))
    assert cost.per_unit_s == pytest.approx(per_row_s, rel=1e-3)
    assert cost.fixed_s == pytest.approx(fixed_s, rel=1e-3)


@given(st.lists(st.tuples(st.integers(-1, 4096), st.floats(allow_nan=True, allow_infinity=True)), max_size=40))
def test_whatever_comes_nothing_is_negative(batches: list[tuple[int, float]]) -> None:
    cost = BatchCost()
    for rows, run_s in batches:
        cost.observe(rows, run_s)
        assert cost.per_unit_s >= 0.0
        assert cost.fixed_s >= 0.0
        assert cost.run_s(1) < float("inf")


def test_times_that_fall_with_the_size_are_a_fixed_cost() -> None:
    cost = BatchCost(((1, 0.02), (32, 0.01)))
    assert cost.per_unit_s == 0.0
    assert 0.01 < cost.fixed_s < 0.02


def test_times_that_start_below_zero_are_a_cost_per_row() -> None:
    cost = BatchCost(((1, 0.001), (32, 0.1)))
    assert cost.fixed_s == 0.0
    assert 0.001 < cost.per_unit_s < 0.004


def test_outliers_change_little() -> None:
    def run_s(rows: int, rng: random.Random) -> float:
        return (0.001 * rows + 0.004) * (100.0 if rng.random() < 0.02 else 1.0)

    cost = learn(run_s, 500)
    for rows in (1, 32):
        assert cost.run_s(rows) == pytest.approx(0.001 * rows + 0.004, rel=0.25)


def test_batches_of_one_size_keep_the_proportion() -> None:
    cost = BatchCost((rows, 0.001 * rows + 0.008) for rows in (1, 2, 4, 8))
    for _ in range(500):
        cost.observe(8, 0.016)
    assert cost.fixed_s / cost.per_unit_s == pytest.approx(8.0, rel=0.05)


def test_batches_of_one_size_change_the_scale() -> None:
    cost = BatchCost((rows, 0.001 * rows + 0.008) for rows in (1, 2, 4, 8))
    for _ in range(500):
        cost.observe(8, 0.024)  # one and a half times what it was
    assert cost.run_s(8) == pytest.approx(0.024, rel=0.01)


def test_batches_of_one_size_and_nothing_else_count_by_the_row() -> None:
    cost = BatchCost(((4, 0.02),))
    assert cost.per_unit_s == pytest.approx(0.005)
    assert cost.fixed_s == 0.0


def test_a_lasting_change_is_followed() -> None:
    cost = BatchCost((rows, 0.001 * rows + 0.001) for rows in (1, 2, 4, 8))
    rng = random.Random(1)
    for _ in range(300):
        rows = any_size(rng)
        cost.observe(rows, 0.01 * rows + 0.05)
    assert cost.run_s(16) == pytest.approx(0.21, rel=0.05)

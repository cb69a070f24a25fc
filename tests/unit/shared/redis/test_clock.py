"""Redis's clock, estimated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redis.clock import RedisClock

EPOCH_MS = 1_700_000_000_000


def test_before_the_first_answer_there_is_no_time() -> None:
    clock = RedisClock()
    with pytest.raises(RuntimeError, match="before the first answer"):
        clock.now_ms(1.0)


def test_an_answer_is_taken_for_the_middle_of_its_round_trip() -> None:
    clock = RedisClock()
    clock.observe(EPOCH_MS, 10.0, 12.0)
    assert clock.now_ms(11.0) == EPOCH_MS
    assert clock.now_ms(11.5) == EPOCH_MS + 500


def test_the_latest_answer_counts() -> None:
    clock = RedisClock()
    clock.observe(EPOCH_MS, 0.0, 0.0)
    clock.observe(EPOCH_MS - 3_600_000, 1.0, 1.0)
    assert clock.now_ms(1.0) == EPOCH_MS - 3_600_000


def test_an_answer_that_took_long_tells_less_than_the_one_before() -> None:
    """A process that was stopped while it asked, or whose server was, must not be seconds off until it asks again."""
    clock = RedisClock()
    clock.observe(EPOCH_MS, 0.0, 0.001)
    for redis_ms in (EPOCH_MS + 1000, EPOCH_MS + 4900):  # stopped after the server had answered, or before
        clock.observe(redis_ms, 1.0, 5.0)
        assert clock.now_ms(5.0) == pytest.approx(EPOCH_MS + 5000, abs=1)


def test_an_answer_that_took_long_and_contradicts_counts() -> None:
    clock = RedisClock()
    clock.observe(EPOCH_MS, 0.0, 0.0)
    clock.observe(EPOCH_MS + 3_600_000, 1.0, 2.0)
    assert clock.now_ms(1.5) == EPOCH_MS + 3_600_000


@given(st.floats(0, 10), st.floats(0, 10), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_the_estimate_is_wrong_by_at_most_half_the_round_trip(
    there_s: float, back_s: float, offset_ms: float, before_s: float
) -> None:
    clock = RedisClock()
    after_s = before_s + there_s + back_s
    clock.observe((before_s + there_s) * 1000 + offset_ms, before_s, after_s)
    error_ms = clock.now_ms(after_s) - (after_s * 1000 + offset_ms)
    assert abs(error_ms) <= (there_s + back_s) * 500 + 1e-3


def test_without_an_argument_it_is_now() -> None:
    clock = RedisClock()
    clock.observe(EPOCH_MS, 0.0, 0.0)
    assert clock.now_ms() <= clock.now_ms()


def test_being_set_back_is_noticed_and_a_slow_answer_is_no_reason() -> None:
    clock = RedisClock()
    clock.observe(EPOCH_MS, 0.0, 0.0)
    clock.observe(EPOCH_MS + 1000, 0.9, 30.0)  # somebody was stopped after the answer had been made
    clock.observe(EPOCH_MS + 3_600_000, 31.0, 31.0)
    assert clock.set_backs == 0
    clock.observe(EPOCH_MS + 3_000, 32.0, 32.0)
    assert clock.set_backs == 1
    clock.observe(EPOCH_MS + 4_000, 33.0, 33.0)
    assert clock.set_backs == 1

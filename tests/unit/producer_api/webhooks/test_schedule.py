"""The schedule of attempts, on a clock of the test's own."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.webhooks import schedule
from producer_api.webhooks.schedule import Verdict


def test_attempts_spread_over_hours_and_end() -> None:
    waits_s = [schedule.wait_s(attempts, 1.0) for attempts in range(1, 12)]
    assert waits_s == [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600, None, None]
    assert 19 * 3600 < sum(wait_s for wait_s in waits_s if wait_s is not None) < 20 * 3600 < schedule.LONGEST_S


@given(attempts=st.integers(1, 9), chance=st.floats(0, 1))
def test_each_wait_is_drawn_between_nothing_and_its_bound(attempts: int, chance: float) -> None:
    assert schedule.wait_s(attempts, chance) == pytest.approx(chance * schedule.bound_s(attempts))


@given(attempts=st.integers(1, 9), chance=st.floats(0, 1), asked_s=st.floats(0, 1e9))
def test_what_a_receiver_asks_for_is_a_lower_bound_up_to_six_hours(
    attempts: int, chance: float, asked_s: float
) -> None:
    wait_s = schedule.wait_s(attempts, chance, asked_s)
    assert wait_s is not None
    assert min(asked_s, 21_600) <= wait_s <= 1.1 * 21_600


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, Verdict.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Verdict.RETRY) for status in (300, 301, 307, 400, 401, 403, 404, 405, 413, 422, 429, 500, 503, 599)),
        (410, Verdict.GIVE_UP),
    ],
)
def test_statuses_say_what_becomes_of_an_event(status: int, verdict: Verdict) -> None:
    assert schedule.verdict(status) is verdict


def test_a_host_that_cannot_be_reached_rests_up_to_five_minutes() -> None:
    assert [schedule.pause_s(failures) for failures in (1, 2, 3, 7, 10, 1_000_000)] == [1, 2, 4, 64, 300, 300]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        ("9" * 400, 9_999_999_999),
        ("-1", None),
        ("soon", None),
        ("١٢", None),
        (formatdate(1_000_060, usegmt=True), 60),
        (formatdate(999_000, usegmt=True), 0),
        ("Fri, 31 Feb 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert schedule.retry_after_s(text, 1_000_000) == seconds

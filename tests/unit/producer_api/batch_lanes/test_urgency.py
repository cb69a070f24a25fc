"""When a batch stops waiting for gaps, on a virtual clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from producer_api.bulk.deadlines.urgency import Pace, Urgency

STEP_S = 0.2


class Ran(NamedTuple):
    """What came of a batch: when it ended, when it was urgent, and how often that changed."""

    ended_s: float
    urgent_s: float
    changes: int


def run(
    items: int, window_s: float, gaps: Callable[[float], float], turns: float, most: float, until_s: float = math.inf
) -> Ran:
    """Run a batch.

    Args:
        gaps: items per second that the gaps leave at a time.
        turns: items per second once it waits no longer.
        most: what the consumers are said to do with nothing else to do.
    """
    urgency, now_s, done, urgent_s, changes, before = Urgency(0.0, window_s), 0.0, 0.0, 0.0, 0, False
    while done < items and now_s < min(until_s, 3 * window_s):
        is_urgent = urgency.look(now_s, int(done), items - int(done), most)
        changes, before = changes + (is_urgent is not before), is_urgent
        urgent_s += STEP_S * is_urgent
        done += STEP_S * (max(turns, gaps(now_s)) if is_urgent else gaps(now_s))
        now_s += STEP_S
    return Ran(now_s, urgent_s, changes)


@settings(max_examples=60, deadline=None)
@given(st.floats(60, 3600), st.floats(5, 500), st.floats(1.5, 20), st.floats(0.0, 1.0))
def test_it_is_never_urgent_while_the_gaps_suffice(window_s: float, rate: float, spare: float, busy: float) -> None:
    ran = run(int(rate * window_s / spare), window_s, lambda _: rate, rate, rate / (1.01 - busy))
    assert ran.urgent_s == 0.0
    assert ran.ended_s <= window_s


@settings(max_examples=60, deadline=None)
@given(
    st.floats(60, 1800),
    st.floats(5, 300),
    st.floats(0.0, 0.9),
    st.floats(2, 600),
    st.floats(0.5, 1.0),
    st.floats(1.7, 8),
)
def test_it_meets_its_deadline_where_capacity_allows(
    window_s: float, most: float, gap_share: float, period_s: float, turn_share: float, spare: float
) -> None:
    """Gaps come and go; without waiting it gets half of the devices at least, and that would do with some to spare."""

    def gaps(now_s: float) -> float:
        return most * gap_share if now_s % (2 * period_s) < period_s else 0.0

    ran = run(int(turn_share * most * window_s / spare), window_s, gaps, turn_share * most, most)
    assert ran.ended_s <= window_s


@settings(max_examples=30, deadline=None)
@given(st.floats(60, 1800), st.floats(5, 300), st.floats(2, 8))
def test_without_any_gap_it_waits_until_it_must_not(window_s: float, most: float, spare: float) -> None:
    ran = run(int(most / 2 * window_s / spare), window_s, lambda _: 0.0, most / 2, most)
    assert ran.ended_s <= window_s
    assert ran.urgent_s <= window_s * (1 / spare + 0.02) + 1.0  # no longer than its work takes


def test_it_goes_back_to_the_gaps_when_it_has_caught_up() -> None:
    def gaps(now_s: float) -> float:
        return 0.0 if now_s < 70.0 else 90.0  # the others leave in the middle

    ran = run(2_000, 100.0, gaps, 50.0, 100.0)
    assert ran.ended_s <= 100.0
    assert ran.changes >= 2
    assert 0.0 < ran.urgent_s < 30.0


def test_a_rate_that_nobody_knows_is_found_by_trying() -> None:
    ran = run(1_000, 100.0, lambda _: 0.0, 40.0, 0.0)
    assert ran.ended_s <= 100.0


def test_it_does_not_waver() -> None:
    ran = run(3_000, 100.0, lambda now_s: 20.0 + 10 * math.sin(now_s), 60.0, 100.0)
    assert ran.ended_s <= 100.0
    assert ran.changes <= 8


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 1000)), max_size=40), st.floats(-10, 100))
def test_times_in_any_order_do_no_harm(looks: list[tuple[float, int]], deadline_s: float) -> None:
    """A clock that jumps, a deadline that has passed."""
    urgency = Urgency(0.0, deadline_s)
    for now_s, done in looks:
        assert urgency.look(now_s, done, 1000 - done, 10.0) in (True, False)
    assert urgency.look(1e6, 1000, 0, 10.0) is False  # nothing is left to hurry for


def test_a_deadline_that_has_passed_is_urgent_at_once() -> None:
    urgency = Urgency(0.0, -5.0)
    urgency.look(0.4, 0, 10, 100.0)
    assert urgency.look(0.6, 1, 9, 100.0) is True


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=50), st.floats(0, 1000))
def test_an_even_pace_is_found(steps: list[float], rate: float) -> None:
    pace = Pace(10.0)
    for seconds in steps:
        pace.passed(round(rate * seconds * 1000), seconds * 1000)
    assert pace.rate is not None
    assert abs(pace.rate - rate) <= 0.06

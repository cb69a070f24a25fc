from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.stack.restarts import Backoff, GiveUp, Restart, RestartPolicy


def test_delays_double_with_each_death_of_the_last_minute() -> None:
    policy = RestartPolicy()
    assert [policy.died(now_s) for now_s in (0.0, 1.0, 3.0, 6.0)] == [
        Restart(0.5, 1),
        Restart(1.0, 2),
        Restart(2.0, 3),
        Restart(4.0, 4),
    ]


def test_the_fifth_death_within_a_minute_gives_up() -> None:
    policy = RestartPolicy()
    for now_s in (0.0, 10.0, 20.0, 30.0):
        assert isinstance(policy.died(now_s), Restart)
    assert policy.died(59.9) == GiveUp(5)


def test_deaths_older_than_the_window_are_forgotten() -> None:
    policy = RestartPolicy()
    for now_s in (0.0, 10.0, 20.0, 30.0):
        policy.died(now_s)
    assert policy.died(60.0) == Restart(4.0, 4)
    assert policy.died(500.0) == Restart(0.5, 1)


def test_the_delay_has_a_ceiling() -> None:
    policy = RestartPolicy(limit=100, longest_delay_s=3.0)
    decisions = [policy.died(0.0) for _ in range(10)]
    assert decisions[-1] == Restart(3.0, 10)


@pytest.mark.parametrize("limit", [1, 2, 7])
@given(gaps_s=st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_it_gives_up_exactly_when_the_limit_falls_into_one_window(limit: int, gaps_s: list[float]) -> None:
    policy = RestartPolicy(limit=limit)
    times_s: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        times_s.append(now_s)
        within = [time_s for time_s in times_s if time_s > now_s - 60.0]
        decision = policy.died(now_s)
        assert isinstance(decision, GiveUp) == (len(within) >= limit)
        assert decision.deaths == len(within)


def test_a_consumer_waits_longer_and_longer_up_to_a_minute() -> None:
    backoff = Backoff()
    pauses_s = [backoff.died(0.1).delay_s for _ in range(10)]
    assert pauses_s == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_good_life_makes_the_pause_short_again() -> None:
    backoff = Backoff()
    for _ in range(8):
        backoff.died(59.9)
    assert backoff.died(60.0) == Restart(0.5, 1)
    assert backoff.died(1.0) == Restart(1.0, 2)


@given(lives_s=st.lists(st.floats(0, 200), min_size=1, max_size=2000))
def test_a_consumer_is_started_again_for_ever_after_a_bounded_pause(lives_s: list[float]) -> None:
    backoff = Backoff()
    for lived_s in lives_s:
        restart = backoff.died(lived_s)
        assert 0.5 <= restart.delay_s <= 60.0
        assert restart.delay_s <= backoff.recovered_after_s() <= 60.0
        if lived_s >= 60.0:
            assert restart.deaths == 1


def test_a_consumer_counts_as_mended_after_twice_its_last_pause() -> None:
    backoff = Backoff()
    found_s = []
    for _ in range(7):
        backoff.died(0.0)
        found_s.append(backoff.recovered_after_s())
    assert found_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


def test_who_died_too_often_lately_is_known_and_may_be_tried_all_the_same() -> None:
    policy = RestartPolicy()
    assert not policy.gives_up(0.0)
    for now_s in (0.0, 1.0, 2.0, 3.0):
        policy.died(now_s)
        assert not policy.gives_up(now_s)
    assert policy.died(4.0) == GiveUp(5)
    assert policy.gives_up(4.0)
    assert policy.all_the_same() == Restart(10.0, 5)
    assert not policy.gives_up(60.0)

"""The adaptive policy, in steps that a reader can follow; ``test_policies.py`` has whole days of it."""

from __future__ import annotations

import pytest

from consumer.batching.adaptive import LEAST_WAIT_S, LONGEST, Adaptive
from consumer.batching.cost import BatchCost

FIXED_S = 8.0
NOT_AT_ALL = float("-inf")


def cost(fixed_s: float = FIXED_S, per_row_s: float = 0.01) -> BatchCost:
    return BatchCost((rows, per_row_s * rows + fixed_s) for rows in (1, 2, 4, 8, 16))


def returning(rounds: int, clients: int, travel_s: float, *, part: int | None = None) -> tuple[Adaptive, float]:
    """Clients that come back ``travel_s`` after each run; returns the moment when ``part`` of them has come again."""
    policy = Adaptive(cost(), 60.0)
    now_s = 0.0
    for _ in range(rounds):
        policy.ended(clients, clients, now_s)
        policy.arrived(clients, clients, now_s + travel_s)
        policy.begun()
        now_s += 10.0
    policy.ended(clients, clients, now_s)
    if part:
        policy.arrived(part, part, now_s + travel_s)
    return policy, now_s + travel_s


def test_at_first_nobody_waits() -> None:
    policy = Adaptive(cost(), 60.0)
    policy.arrived(1, 1, 0.0)
    assert policy.until_s(1, 1, 0.0) == NOT_AT_ALL


def test_returning_clients_are_waited_for() -> None:
    policy, now_s = returning(10, 4, 0.3, part=1)
    assert now_s < policy.until_s(1, 1, now_s) <= now_s + LONGEST * FIXED_S


def test_once_all_are_here_nobody_waits() -> None:
    policy, now_s = returning(10, 4, 0.3, part=4)
    assert policy.until_s(4, 4, now_s) == NOT_AT_ALL


def test_clients_that_come_too_late_are_not_waited_for() -> None:
    """Of two clients one is here when the other's run ends; the other comes back, but not soon enough."""
    policy = Adaptive(cost(), 60.0)
    for number in range(20):
        now_s = 20.0 * number
        policy.ended(1, 1, now_s)
        assert policy.until_s(1, 1, now_s) == NOT_AT_ALL
        policy.begun()
        policy.arrived(1, 1, now_s + LONGEST * FIXED_S + 0.5)


def test_a_wait_in_vain_ends() -> None:
    policy, now_s = returning(10, 4, 0.3)
    policy.arrived(1, 1, now_s)
    until_s, steps = policy.until_s(1, 1, now_s), 0
    while until_s > now_s:
        now_s, steps = until_s, steps + 1
        until_s = policy.until_s(1, 1, now_s)
    assert steps < 10
    assert until_s == NOT_AT_ALL


def test_a_burst_is_waited_for() -> None:
    policy = Adaptive(cost(), 60.0)
    for number in range(10):
        now_s = 100.0 * number
        policy.arrived(1, 1, now_s)
        wait_s = policy.until_s(1, 1, now_s) - now_s
        policy.arrived(7, 8, now_s + 0.01)
        policy.begun()
        policy.ended(8, 8, now_s + 20.0)
    assert 0.01 <= wait_s <= LONGEST * FIXED_S


def test_single_requests_are_taken_at_once() -> None:
    policy = Adaptive(cost(), 60.0)
    for number in range(50):
        policy.arrived(1, 1, 100.0 * number)
        assert policy.until_s(1, 1, 100.0 * number) == NOT_AT_ALL
        policy.begun()
        policy.ended(1, 1, 100.0 * number + FIXED_S)


@pytest.mark.parametrize(
    ("fixed_s", "window_s"),
    [(LEAST_WAIT_S, 60.0), (FIXED_S, 0.0), (FIXED_S, LEAST_WAIT_S / 2), (0.0, 60.0)],
)
def test_where_no_wait_can_pay_none_is_ever_begun(fixed_s: float, window_s: float) -> None:
    policy = Adaptive(cost(fixed_s), window_s)
    assert not policy.waits()
    policy.arrived(1, 1, 0.0)
    assert policy.until_s(1, 1, 0.0) == NOT_AT_ALL


def test_the_window_bounds_the_wait() -> None:
    policy = Adaptive(cost(), 0.5)
    for number in range(10):
        now_s = 100.0 * number
        policy.arrived(1, 1, now_s)
        until_s = policy.until_s(1, 1, now_s)
        policy.arrived(7, 8, now_s + 0.4)
        policy.begun()
        policy.ended(8, 8, now_s + 20.0)
    assert now_s < until_s <= now_s + 0.5


def test_it_learns_to_wait_when_the_cost_turns_out_to_be_fixed() -> None:
    learned = BatchCost()
    policy = Adaptive(learned, 60.0)
    assert not policy.waits()
    for rows in (1, 2, 4, 8):
        learned.observe(rows, FIXED_S)
    policy.ended(8, 8, 100.0)
    assert policy.waits()

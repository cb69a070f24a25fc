"""The room for bodies that are not complete yet: bounded, given back, and not kept by slow ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer_api.load.body_budget import BodyBudget, IncomingBody

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400) | st.none(), st.sampled_from((0.0, 0.1, 1.5))))


@given(st.integers(1, 1000), STEPS)
def test_the_sum_is_bounded_and_given_back_and_nobody_is_given_up_early(
    most: int, steps: list[tuple[int, int | None, float]]
) -> None:
    body_budget = BodyBudget(most)
    now_s = 100.0
    bodies: dict[int, IncomingBody] = {}
    held: dict[IncomingBody, int] = {}
    since_s: dict[IncomingBody, float] = {}

    def begin(may_be_given_up: bool) -> IncomingBody:
        body = body_budget.begin()
        held[body] = 0

        def given_up() -> None:
            assert body.is_given_up
            assert now_s - since_s[body] >= 2.0
            assert all(since_s[body] <= since_s[one] for one, size in held.items() if size and one.on_given_up)
            held[body] = 0

        if may_be_given_up:
            body.on_given_up = given_up
        return body

    for number, size, later_s in steps:
        now_s += later_s
        body = bodies.setdefault(number, begin(number < 8))
        if size is None:
            body.end()
            held[body] = 0
            del bodies[number]
        elif body.take(size, now_s):
            assert not body.is_given_up
            if not held[body] and size:
                since_s[body] = now_s
            held[body] += size
        assert body_budget.held_bytes == sum(held.values())
        assert body_budget.held_bytes <= most
    for body in bodies.values():
        body.end()
        body.end()
    assert body_budget.held_bytes == 0


def test_who_has_sent_nothing_keeps_nobody_out() -> None:
    body_budget = BodyBudget(100)
    waiting = [body_budget.begin() for _ in range(1000)]
    assert all(one.take(0, 0.0) for one in waiting)
    assert body_budget.begin().take(100, 9.0)


def test_when_there_is_no_room_what_began_long_ago_makes_it() -> None:
    body_budget, gone = BodyBudget(100), []
    slow = [body_budget.begin() for _ in range(3)]
    for number, one in enumerate(slow):
        one.on_given_up = lambda number=number: gone.append(number)
        assert one.take(30, float(number))
    newcomer = body_budget.begin()
    assert not newcomer.take(20, 1.9)  # all of them are young
    assert newcomer.take(20, 2.0)
    assert gone == [0]
    assert newcomer.take(10, 60.0)  # there is room without giving up anybody
    assert newcomer.take(60, 60.0)
    assert gone == [0, 1, 2]
    assert not slow[0].take(1, 60.0)
    assert body_budget.held_bytes == 90


def test_a_slow_one_that_needs_more_is_given_up_itself() -> None:
    body_budget, gone = BodyBudget(100), []
    one = body_budget.begin()
    one.on_given_up = lambda: gone.append(True)
    assert one.take(90, 0.0)
    assert not one.take(20, 5.0)
    assert (gone, body_budget.held_bytes) == ([True], 0)

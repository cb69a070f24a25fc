"""The account of answers that wait for their clients."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from producer_api.load.answer_budget import ROOM, STALLED, AnswerBudget, UnreadAnswer


def account(most: int = 100, timeout_s: float = 10.0, patience_s: float = 2.0) -> tuple[AnswerBudget, list[str]]:
    return AnswerBudget(most, timeout_s, patience_s), []


def test_who_takes_nothing_is_given_up_when_its_time_is_over() -> None:
    answer_budget, gone = account()
    one = answer_budget.begin(60, 0.0, lambda: gone.append("one"))
    for second in range(1, 10):
        one.progress(0, second)
    one.progress(1, 10)
    for second in range(11, 20):
        one.progress(0, second)
    assert not gone
    one.progress(0, 20)
    one.progress(0, 30)
    assert (gone, answer_budget.held_bytes) == (["one"], 0)
    assert answer_budget.given_up == {(STALLED,): 1, (ROOM,): 0}


def test_when_this_process_was_held_up_that_is_not_held_against_clients() -> None:
    answer_budget, gone = account()
    one = answer_budget.begin(60, 0.0, lambda: gone.append("one"))
    one.progress(0, 1000.0)
    assert not gone
    for second in range(1, 10):
        one.progress(0, 1000.0 + second)
    assert gone == ["one"]


def test_the_slowest_gives_way() -> None:
    answer_budget, gone = account()
    slow = answer_budget.begin(40, 0.0, lambda: gone.append("slow"))
    quick = answer_budget.begin(40, 0.0, lambda: gone.append("quick"))
    slow.progress(10, 4.0)
    quick.progress(30, 4.0)
    answer_budget.begin(40, 5.0, lambda: gone.append("new"))
    assert (gone, answer_budget.held_bytes) == (["slow"], 80)
    answer_budget.begin(20, 5.0, lambda: gone.append("small"))
    assert gone == ["slow"]
    answer_budget.begin(90, 5.0, lambda: gone.append("large"))
    assert gone == ["slow", "quick", "new", "small"]
    assert answer_budget.given_up == {(STALLED,): 0, (ROOM,): 4}


def test_what_is_larger_than_all_the_room_is_given_up_itself() -> None:
    answer_budget, gone = account()
    answer_budget.begin(101, 0.0, lambda: gone.append("large"))
    assert (gone, answer_budget.held_bytes) == (["large"], 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(0, 5)), max_size=60))
def test_never_more_than_there_is_room_for_and_nothing_is_left(steps: list[tuple[int, int, int]]) -> None:
    answer_budget, _ = account()
    held: list[UnreadAnswer] = []
    gone: list[int] = []
    now_s = 0.0
    for kind, amount, place in steps:
        now_s += amount / 10
        if kind < 2:
            held.append(answer_budget.begin(amount, now_s, partial(gone.append, len(held))))
        elif held and kind == 2:
            held[place % len(held)].progress(amount % 3, now_s)
        elif held:
            held[place % len(held)].end()
        assert 0 <= answer_budget.held_bytes <= answer_budget.most_bytes
    for one in held:
        one.end()
    assert answer_budget.held_bytes == 0
    assert len(gone) == len(set(gone)) == sum(answer_budget.given_up.values())

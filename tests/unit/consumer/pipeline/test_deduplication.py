"""Requests that were sent twice: the second joins the first."""

from __future__ import annotations

from consumer.pipeline.deduplication import MOST, Repeats, may_repeat
from consumer.pipeline.items import Item
from shared.keys import FRONT_END
from tests.unit.consumer.parts import item


def test_whom_a_front_end_waits_for_cannot_repeat() -> None:
    waits_for = (None, "shop-1", "fe", f"{FRONT_END}0123")
    assert [may_repeat(item("a", reply_to=one).request) for one in waits_for] == [True, True, True, False]


def end(repeats: Repeats, one: Item, *, answered: bool = True) -> list[str]:
    return [joined.request.reply_to or "" for joined in repeats.end("default", one.request.id, answered=answered)]


def test_the_second_joins_and_is_given_back_when_the_first_ends() -> None:
    repeats, first = Repeats(), item("a", reply_to="one")
    assert not repeats
    assert [
        repeats.joins(one) for one in (first, item("a", reply_to="two"), item("b"), item("a", reply_to="three"))
    ] == [*(False, True, False, True)]
    assert len(repeats) == 2
    assert end(repeats, first) == ["two", "three"]
    assert end(repeats, first) == []
    assert not repeats.joins(item("a"))


def test_what_was_answered_is_remembered_and_what_expired_is_not() -> None:
    repeats = Repeats()
    answered, expired, other = item("answered"), item("expired"), item("other")
    for one in (answered, expired):
        repeats.joins(one)
    end(repeats, answered)
    end(repeats, expired, answered=False)
    end(repeats, other)  # never let in, so it came from a front end
    assert [repeats.was_answered(one) for one in (answered, expired, other)] == [True, False, False]


def test_so_much_is_remembered_and_no_more() -> None:
    repeats = Repeats()
    items = [item(f"r{number}") for number in range(MOST + 10)]
    for one in items:
        repeats.joins(one)
        end(repeats, one)
    assert sum(repeats.was_answered(one) for one in items) == MOST
    assert not repeats

"""Requests that were sent twice: the second joins the first."""

from __future__ import annotations

from consumer.pipeline.deduplication import MOST, Deduplication, may_be_duplicate
from consumer.pipeline.items import Item
from shared.keys import FRONT_END
from tests.unit.consumer.parts import item


def test_whom_a_front_end_waits_for_cannot_repeat() -> None:
    waits_for = (None, "shop-1", "fe", f"{FRONT_END}0123")
    assert [may_be_duplicate(item("a", reply_to=one).request) for one in waits_for] == [True, True, True, False]


def end(deduplication: Deduplication, one: Item, *, answered: bool = True) -> list[str]:
    return [joined.request.reply_to or "" for joined in deduplication.end("default", one.request.id, answered=answered)]


def test_the_second_joins_and_is_given_back_when_the_first_ends() -> None:
    deduplication, first = Deduplication(), item("a", reply_to="one")
    assert not deduplication
    assert [
        deduplication.joins(one) for one in (first, item("a", reply_to="two"), item("b"), item("a", reply_to="three"))
    ] == [*(False, True, False, True)]
    assert len(deduplication) == 2
    assert end(deduplication, first) == ["two", "three"]
    assert end(deduplication, first) == []
    assert not deduplication.joins(item("a"))


def test_what_was_answered_is_remembered_and_what_expired_is_not() -> None:
    deduplication = Deduplication()
    answered, expired, other = item("answered"), item("expired"), item("other")
    for one in (answered, expired):
        deduplication.joins(one)
    end(deduplication, answered)
    end(deduplication, expired, answered=False)
    end(deduplication, other)  # never let in, so it came from a front end
    assert [deduplication.was_answered(one) for one in (answered, expired, other)] == [True, False, False]


def test_so_much_is_remembered_and_no_more() -> None:
    deduplication = Deduplication()
    items = [item(f"r{number}") for number in range(MOST + 10)]
    for one in items:
        deduplication.joins(one)
        end(deduplication, one)
    assert sum(deduplication.was_answered(one) for one in items) == MOST
    assert not deduplication

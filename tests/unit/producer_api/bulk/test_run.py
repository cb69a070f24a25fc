"""A batch while it runs, without servers: nothing is lost, nothing counts twice."""

from __future__ import annotations

import random

import msgpack
import pytest

from producer_api.bulk.parts import Record
from producer_api.bulk.run import (
    MOST_ATTEMPTS,
    MOST_PART_BYTES,
    OVERDUE_S,
    PART_ITEMS,
    PART_S,
    Run,
    index_of,
    request_id,
)

OK: bytes = msgpack.packb({"ok": True, "final": True})
EVERYTHING = 1 << 40


def error(code: str) -> bytes:
    reply: bytes = msgpack.packb({"ok": False, "error": {"code": code, "message": "x"}})
    return reply


def records(*numbers: int) -> list[Record]:
    return [Record(number, b"n", b"message") for number in numbers]


def started(total: int, now_s: float = 0.0) -> Run:
    run = Run(total, ())
    run.load(records(*range(total)), now_s)
    assert len(run.take(total, EVERYTHING, total, now_s)) == total
    return run


def test_an_answer_ends_an_item_once() -> None:
    run = started(2)
    assert run.answered(0, OK, 1.0)
    assert not run.answered(0, OK, 1.0)
    assert not run.answered(0, error("internal"), 1.0)
    assert (run.done, run.is_done) == (1, False)
    assert run.answered(1, error("model_error"), 1.0)
    assert [(one.number, one.has_error) for one in run.cut(1.0)] == [(0, False), (1, True)]
    assert (run.is_done, run.in_flight, run.in_flight_bytes, run.cut(1.0)) == (True, {}, 0, [])


def test_what_was_stored_before_is_left_out() -> None:
    run = Run(4, [0, 2, 2])
    run.load(records(0, 1, 2, 3, 4), 0.0)
    assert [flight.record.number for flight in run.take(9, EVERYTHING, 9, 0.0)] == [1, 3]
    assert run.done == 2


def test_refused_items_are_answered_without_the_lane() -> None:
    run = Run(2, ())
    run.load([Record(0, b"bad", error("malformed"), has_error=True), *records(1)], 0.0)
    assert [flight.record.number for flight in run.take(9, EVERYTHING, 9, 0.0)] == [1]
    assert [(one.number, one.name, one.has_error) for one in run.cut(0.0)] == [(0, b"bad", True)]


@pytest.mark.parametrize("code", ["expired", "lane_full"])
def test_what_is_not_the_items_fault_is_tried_again(code: str) -> None:
    run = started(1)
    for _ in range(MOST_ATTEMPTS - 1):
        assert not run.answered(0, error(code), 0.0)
        assert run.found_no_room == (code == "lane_full")
        assert len(run.take(1, EVERYTHING, 1, 0.0)) == 1
    assert run.answered(0, error(code), 0.0)
    assert run.cut(0.0)[0].has_error


def test_a_part_of_an_answer_is_none() -> None:
    run = started(1)
    assert not run.answered(0, msgpack.packb({"ok": True, "final": False}), 0.0)
    assert run.answered(0, OK, 0.0)


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    run = started(1)
    assert run.answered(0, b"\xc1", 0.0)
    assert run.cut(0.0)[0].has_error


def test_items_are_taken_within_bounds() -> None:
    run = Run(10, ())
    run.load(records(*range(10)), 0.0)
    assert run.waiting_bytes == 70
    assert len(run.take(9, 1, 10, 0.0)) == 1  # one of any size
    assert len(run.take(9, 15, 10, 0.0)) == 2
    assert len(run.take(9, EVERYTHING, 5, 0.0)) == 2  # only those below
    assert (len(run.in_flight), run.in_flight_bytes, run.waiting_bytes) == (5, 35, 35)


def test_what_the_lane_refuses_comes_first_next_time() -> None:
    run = Run(4, ())
    run.load(records(*range(4)), 0.0)
    taken = run.take(2, EVERYTHING, 4, 0.0)
    run.put_back(taken)
    assert [flight.record.number for flight in run.take(3, EVERYTHING, 4, 0.0)] == [0, 1, 2]


def test_items_that_are_in_the_lane_already_are_not_added_again() -> None:
    run = Run(3, ())
    run.load(records(0, 1, 2), 0.0)
    run.adopt({1: b"5-1"}.items(), 0.0)
    assert [flight.record.number for flight in run.take(9, EVERYTHING, 9, 0.0)] == [0, 2]
    assert run.in_flight[1].entry == b"5-1"


def test_replies_that_an_earlier_driver_left_are_taken() -> None:
    run = Run(4, ())
    run.load(records(0, 1, 2, 3), 0.0, {1: OK, 2: error("expired"), 9: OK})
    assert [one.number for one in run.cut(0.0)] == [1]
    assert [flight.record.number for flight in run.take(9, EVERYTHING, 9, 0.0)] == [2, 0, 3]
    assert (run.waiting_bytes, run.in_flight_bytes) == (0, 21)


def test_a_reply_to_an_item_that_was_not_read_yet_is_left_where_it_is() -> None:
    run = Run(2, ())
    assert not run.answered(1, OK, 0.0)
    assert run.done == 0


def test_overdue_items_are_looked_for_in_turn() -> None:
    run = started(5)
    later_s = OVERDUE_S + 1
    assert [flight.record.number for flight in run.overdue(later_s, 2)] == [0, 1]
    assert [flight.record.number for flight in run.overdue(later_s, 9)] == [2, 3, 4]
    assert run.overdue(later_s, 9) == []


def test_parts_are_cut_when_they_are_large_or_late_or_the_last() -> None:
    run = started(PART_ITEMS + 2)
    assert not run.has_part(0.0)
    run.answered(0, OK, 0.0)
    assert not run.has_part(PART_S / 2)
    assert run.has_part(PART_S)
    for number in range(1, PART_ITEMS + 1):
        run.answered(number, OK, 0.0)
    assert run.has_part(0.0)
    assert len(run.cut(0.0)) == PART_ITEMS + 1
    assert not run.has_part(0.1)
    run.answered(PART_ITEMS + 1, OK, 0.1)
    assert run.has_part(0.1)  # nothing more comes
    assert len(run.cut(0.1)) == 1


def test_large_answers_make_small_parts_and_clog() -> None:
    run = started(30)
    large = msgpack.packb({"ok": True, "x": bytes(MOST_PART_BYTES // 7)})
    for number in range(30):
        run.answered(number, large, 0.0)
    assert run.is_clogged
    sizes = []
    while part := run.cut(0.0):
        sizes.append(len(part))
    assert sizes == [6] * 5
    assert not run.is_clogged


def test_an_answer_of_any_size_is_a_part() -> None:
    run = started(2)
    huge = msgpack.packb({"ok": True, "x": bytes(2 * MOST_PART_BYTES)})
    for number in range(2):
        run.answered(number, huge, 0.0)
    assert [len(run.cut(0.0)), len(run.cut(0.0)), len(run.cut(0.0))] == [1, 1, 0]


def test_ids_lead_back_to_their_items() -> None:
    assert request_id("b-1", 123) == "b-1-000123"
    assert index_of(b"b-1-", b"b-1-000123") == 123
    for other in (b"b-2-000123", b"b-1-123", b"b-1-00012x", b"b-1", b"", b"000123", b"b-1-0000123"):
        assert index_of(b"b-1-", other) is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_item_has_one_result(seed: int) -> None:
    """A lane that refuses, loses, doubles and expires; drivers that begin again from what was stored."""
    chance = random.Random(seed)
    total, now_s = 300, 0.0
    stored: list[int] = []
    while len(stored) < total:
        run = Run(total, stored)
        run.load(records(*range(total)), now_s)
        while not run.is_done and chance.random() > 0.01:  # else this driver dies
            now_s += 0.1
            taken = run.take(chance.randrange(40), EVERYTHING, total, now_s)
            if chance.random() < 0.2:
                run.put_back([one for one in taken if chance.random() < 0.5])
            for number in list(run.in_flight):
                fate = chance.random()
                if fate < 0.5:
                    run.answered(number, OK, now_s)
                    if chance.random() < 0.3:
                        run.answered(number, OK, now_s)
                elif fate < 0.55:
                    run.answered(number, error("expired"), now_s)
                elif fate < 0.6:
                    run.lost(number)
            if run.has_part(now_s):
                stored += [one.number for one in run.cut(now_s)]
        if run.is_done:
            while part := run.cut(now_s):
                stored += [one.number for one in part]
    assert sorted(stored) == list(range(total))

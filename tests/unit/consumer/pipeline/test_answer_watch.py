"""When does a consumer that takes work answer none? Pure: times are arguments."""

from __future__ import annotations

import pytest

from consumer.pipeline.answer_watch import AnswerWatch

GRACE_S, LONGEST_S = 5.0, 10.0


@pytest.fixture
def answering() -> AnswerWatch:
    watch = AnswerWatch(GRACE_S, LONGEST_S)
    assert watch.late_s(0.0, [], 0) == 0.0
    return watch


def test_who_holds_nothing_is_never_late(answering: AnswerWatch) -> None:
    assert [answering.late_s(float(now_s), [], 0) for now_s in range(0, 1000, 10)] == [0.0] * 100


def test_what_is_held_beyond_its_time_and_the_grace_is_late(answering: AnswerWatch) -> None:
    late = [answering.late_s(float(now_s), [10.0], 0, works=True) for now_s in range(20)]
    assert late == [0.0] * 15 + [5.0, 6.0, 7.0, 8.0, 9.0]


def test_any_answer_ends_it(answering: AnswerWatch) -> None:
    assert answering.late_s(20.0, [10.0], 0, works=True) > 0
    assert answering.late_s(21.0, [10.0], 1, works=True) == 0.0
    assert answering.late_s(25.9, [10.0], 1, works=True) == 0.0
    assert answering.late_s(26.0, [10.0], 1, works=True) == 5.0


def test_who_answers_others_is_not_late(answering: AnswerWatch) -> None:
    late = [answering.late_s(float(now_s), [10.0, 1e9], now_s, works=True) for now_s in range(100)]
    assert late == [0.0] * 100


def test_a_long_batch_that_somebody_waits_for_is_legitimate(answering: AnswerWatch) -> None:
    """An hour for one that has an hour, whatever else was taken meanwhile and expired here."""
    for now_s in range(1, 3600):
        assert answering.late_s(float(now_s), [3600.0, 10.0], 0, running_until_s=3600.0, works=True) == 0.0
    assert answering.late_s(3605.0, [3600.0, 10.0], 0, running_until_s=3600.0, works=True) > 0


def test_one_that_began_in_time_may_run_on_for_the_grace(answering: AnswerWatch) -> None:
    assert answering.late_s(14.9, [10.0], 0, running_until_s=10.0, works=True) == 0.0
    assert answering.late_s(15.0, [10.0], 0, running_until_s=10.0, works=True) == 5.0


def test_work_that_nobody_does_anything_with_is_late_long_before_its_time(answering: AnswerWatch) -> None:
    late = [answering.late_s(float(now_s), [3600.0], 0) for now_s in range(1, 15)]
    assert late == [0.0] * 9 + [10.0, 11.0, 12.0, 13.0, 14.0]


def test_waiting_for_company_is_no_idling(answering: AnswerWatch) -> None:
    """Shorter than the longest batch, which the settings hold the window to; then a batch, and again."""
    for begun_s in range(1, 100, 10):
        for now_s in range(begun_s, begun_s + 9):
            assert answering.late_s(float(now_s), [3600.0], 0) == 0.0
        assert answering.late_s(begun_s + 9.5, [3600.0], 0, works=True) == 0.0

"""From both halves of a request to its story: which belong together, what the state is, and how spans add up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from producer_api.request_log import story as module
from producer_api.request_log.story import consumer_parts, from_reply, stories, whole
from shared.wire.messages import Fault, ModelTag, Reply, Timing
from shared.wire.request_log import (
    BY_FRONT_END,
    DEAD,
    HIT,
    NOTHING_RAN,
    ConsumerHalf,
    FrontHalf,
    Half,
    encode,
    halves,
)
from shared.wire.request_log import JOINED as SHARED

NOW_MS = 1_700_000_000_000.0


def front(**others: Any) -> FrontHalf:
    parts: dict[str, Any] = {
        "lane": "default",
        "request_id": "r1",
        "outcome": "ok",
        "front_end": "fe-1",
        "total_s": 0.1,
        "ended_ms": NOW_MS,
        "admission_s": 0.01,
        "back_s": 0.005,
    }
    return FrontHalf(**{**parts, **others})


def consumer(**others: Any) -> ConsumerHalf:
    parts: dict[str, Any] = {
        "lane": "default",
        "request_id": "r1",
        "outcome": "ok",
        "worker": "w1",
        "attempt": 1,
        "ended_ms": NOW_MS - 10,
        "queue_s": 0.02,
        "batch": 3,
        "rows": 8,
        "reason": "full",
        "lanes": frozenset({"default"}),
        "wait_s": 0.01,
        "decode_s": 0.004,
        "run_s": 0.03,
        "commit_s": 0.002,
    }
    return ConsumerHalf(**{**parts, **others})


def named(spans: Any) -> dict[str, float]:
    return {span.name: span.ms for span in spans}


def test_a_request_of_which_both_halves_are_known() -> None:
    (told,) = stories("echo", [front(trace_id="abc"), consumer(first_token_s=0.011)], ())
    assert (told.state, told.outcome, told.attempt, told.worker, told.front_end) == ("answered", "ok", 1, "w1", "fe-1")
    assert told.batch is not UNSET
    assert (told.batch.id, told.batch.rows, told.batch.reason, told.batch.of_batch_lane) == ("w1-3", 8, "full", False)
    assert named(told.spans) == {
        "admission": 10.0,
        "queue": 20.0,
        "company": 6.0,
        "decode": 4.0,
        "run": 30.0,
        "commit": 2.0,
        "way_back": 28.0,
    }
    assert told.total_ms == pytest.approx(sum(span.ms for span in told.spans))
    assert (told.at_ms, told.first_token_ms, told.trace_id) == (round(NOW_MS - 100), 11.0, "abc")
    assert list(told.notes) == []


SECONDS = st.floats(0, 10)


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_spans_are_never_negative_and_add_up_unless_that_is_said(
    admission_s: float, queue_s: float, wait_s: float, run_s: float, commit_s: float, back_s: float, more_s: float
) -> None:
    total_s = admission_s + back_s + more_s
    parts = [("admission", admission_s), *consumer_parts(queue_s, wait_s, wait_s / 2, run_s, commit_s)]
    spans, note = whole(parts, back_s, total_s)
    assert all(span.ms >= 0 for span in spans)
    if not note:
        assert sum(span.ms for span in spans) == pytest.approx(total_s * 1000, abs=module.DISAGREE_MS + 0.01)
        assert named(spans)["way_back"] >= back_s * 1000 - 0.001


def test_what_two_sides_count_is_taken_off_the_commit_first_then_off_the_queue() -> None:
    parts = [("admission", 0.01), *consumer_parts(0.02, 0.01, 0.0, 0.03, 0.002)]
    spans, note = whole(parts, 0.005, 0.0765)  # 0.5 ms less than all parts together
    assert (named(spans)["commit"], named(spans)["queue"], note) == (1.5, 20.0, "")
    spans, note = whole(parts, 0.005, 0.074)
    assert (named(spans)["commit"], named(spans)["queue"], note) == (0.0, 19.0, "")
    spans, note = whole(parts, 0.005, 0.050)
    assert note == "The clocks disagree by 5.0 ms more than the spans can show."


def test_of_a_direct_producers_request_only_the_consumers_half_is_known() -> None:
    (told,) = stories("echo", [consumer()], ())
    assert "admission" not in named(told.spans)
    assert "way_back" not in named(told.spans)
    assert told.front_end is UNSET
    assert told.total_ms == pytest.approx(62.0)
    assert told.notes == [module.NO_FRONT_END]


@pytest.mark.parametrize(
    ("code", "state"), [("lane_full", "failed"), ("overloaded", "failed"), ("client_closed", "cancelled")]
)
def test_what_the_front_end_refused_has_its_total_and_no_spans(code: str, state: str) -> None:
    (told,) = stories("echo", [front(outcome=code, admission_s=None, back_s=None)], ())
    assert (told.state, told.outcome, told.spans, told.total_ms) == (state, code, [], 100.0)
    assert told.worker is UNSET
    assert told.batch is UNSET
    assert told.notes == [module.GONE if code == "client_closed" else module.REFUSED]


def test_a_dead_letter_says_so_and_that_it_was_tried_before() -> None:
    halves: list[Half] = [front(outcome="crashed"), consumer(outcome="crashed", reason=DEAD, attempt=4, queue_s=0.06)]
    (told,) = stories("echo", halves, ())
    assert (told.state, told.outcome, told.attempt) == ("dead", "crashed", 4)
    assert told.batch is UNSET
    assert set(named(told.spans)) == {"admission", "queue", "commit", "way_back"}
    assert module.TAKEN_OVER in told.notes


@pytest.mark.parametrize(
    ("code", "state"), [("expired", "failed"), ("cancelled", "cancelled"), ("model_error", "failed")]
)
def test_what_a_consumer_ended_without_running_it_has_a_queue_only(code: str, state: str) -> None:
    halves: list[Half] = [
        front(outcome=code),
        consumer(outcome=code, reason=NOTHING_RAN, rows=0, run_s=0, wait_s=0, commit_s=0),
    ]
    (told,) = stories("echo", halves, ())
    assert (told.state, told.outcome) == (state, code)
    assert set(named(told.spans)) == {"admission", "queue", "way_back"}


def test_a_repeated_question_is_a_story_of_its_own_without_a_run() -> None:
    again = front(ended_ms=NOW_MS + 60_000, total_s=0.003, admission_s=0.001)
    told = stories("echo", [front(), consumer(), again], ())
    assert [one.at_ms for one in told] == [round(NOW_MS + 59_997), round(NOW_MS - 100)]
    assert told[0].notes == [module.NO_CONSUMER]
    assert told[0].worker is UNSET
    assert told[1].worker == "w1"


@pytest.mark.parametrize(("cache", "what"), [(HIT, "came from the result cache"), (SHARED, "of an equal request")])
def test_what_no_consumer_ran_for_its_own_sake_says_so(cache: str, what: str) -> None:
    end = ("default", "r1", "ok", 1.0, 1.1, 1.2, 1.3, None)
    (half,) = halves(BY_FRONT_END, encode("fe-1", 2.0, [(*end, cache)]), int(NOW_MS), "r1")
    (told,) = stories("echo", [half], ())
    assert told.state == "answered"
    assert len(told.notes) == 1
    assert what in told.notes[0]
    (older,) = halves(BY_FRONT_END, encode("fe-1", 2.0, [end]), int(NOW_MS), "r1")  # of a front end without the member
    assert stories("echo", [older], ())[0].notes == [module.NO_CONSUMER]


def test_two_that_waited_for_one_run_the_first_has_it() -> None:
    second = front(total_s=0.05, front_end="fe-2")
    told = {one.front_end: one for one in stories("echo", [second, front(), consumer()], ())}
    assert told["fe-1"].worker == "w1"
    assert told["fe-2"].notes == [module.NO_CONSUMER]


def test_who_joined_a_run_that_was_older_is_not_told_its_spans_add_up() -> None:
    (told,) = stories("echo", [front(total_s=0.05), consumer(queue_s=3.0)], ())
    assert told.notes == [module.JOINED]
    assert told.total_ms == 50.0


def test_a_later_request_is_over_when_its_result_is_stored() -> None:
    accepted = front(outcome="accepted", total_s=0.02, ended_ms=NOW_MS - 5000, back_s=None)
    (told,) = stories("echo", [accepted, consumer(queue_s=4.9)], ())
    assert (told.state, told.outcome) == ("answered", "ok")
    assert "way_back" not in named(told.spans)
    assert told.total_ms == pytest.approx(sum(named(told.spans).values()))
    assert told.notes == [module.LATER]


def test_a_later_request_that_has_not_ended_is_queued() -> None:
    (told,) = stories("echo", [front(outcome="accepted", back_s=None)], ())
    assert (told.state, told.outcome) == ("queued", UNSET)
    assert told.notes == [module.NO_END]


def test_the_same_id_in_two_lanes_is_two_requests() -> None:
    told = stories("echo", [front(), consumer(lane="gold", ended_ms=NOW_MS - 11)], ())
    assert {(one.lane, one.front_end is UNSET) for one in told} == {("default", False), ("gold", True)}


@pytest.mark.parametrize(("lanes", "expected"), [({"night"}, True), ({"night", "default"}, False), (set(), False)])
def test_a_batch_is_of_a_batch_lane_if_all_of_it_is(lanes: set[str], expected: bool) -> None:
    (told,) = stories("echo", [consumer(lane="night", lanes=frozenset(lanes))], {"night"})
    assert told.batch is not UNSET
    assert told.batch.of_batch_lane is expected


def test_a_batch_that_took_it_along_is_of_no_batch_lane() -> None:
    (told,) = stories("echo", [consumer(lane="night", lanes=frozenset({"night"}), taken_along=True)], {"night"})
    assert told.batch is not UNSET
    assert not told.batch.of_batch_lane


def test_a_stored_answer_says_what_it_knows() -> None:
    tag, timing = ModelTag("echo", "1", "fp32"), Timing(1000, 2000, 500, 3000, 4)
    told = from_reply("echo", "default", Reply("r1", tag, timing, attempt=2, outputs=()))
    assert named(told.spans) == {"queue": 1.0, "company": 1.5, "decode": 0.5, "run": 3.0}
    assert (told.state, told.attempt, told.total_ms, told.worker) == ("answered", 2, UNSET, UNSET)
    failed = from_reply("echo", "default", Reply("r1", tag, Timing(), fault=Fault("crashed", "It died.")))
    assert (failed.state, failed.outcome, failed.spans) == ("failed", "crashed", [])


@pytest.mark.parametrize("code", ["client_closed", "unknown_outcome"])
def test_what_a_front_end_did_not_wait_for_ends_when_its_consumer_is_done(code: str) -> None:
    (told,) = stories("echo", [front(outcome=code, back_s=None), consumer(ended_ms=NOW_MS + 9000, queue_s=9.0)], ())
    assert (told.state, told.outcome, told.worker) == ("answered", code, "w1")
    assert told.total_ms == pytest.approx(sum(named(told.spans).values()))
    assert told.notes == [module.GONE if code == "client_closed" else module.TIMED_OUT]


def test_a_body_that_was_sent_again_is_one_story() -> None:
    first = consumer(outcome="body_gone", reason=NOTHING_RAN, ended_ms=NOW_MS - 60)
    (told,) = stories("echo", [front(), first, consumer()], ())
    assert told.outcome == "ok"

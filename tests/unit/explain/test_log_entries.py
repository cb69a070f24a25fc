"""Entries of the request log: what is written is read again, and bytes of strangers say nothing wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.events import ItemDone
from shared.redis.request_log import LEFT_SHARE, WEIGH_S, Cap
from shared.wire.request_log import (
    BY_CONSUMER,
    BY_FRONT_END,
    MOST_ENTRY_BYTES,
    MOST_FOUND,
    VERSION,
    BatchEnd,
    ConsumerHalf,
    FrontHalf,
    encode,
    halves,
)

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
SECONDS = st.floats(0, 86_400)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENTRY_MS = 1_700_000_000_000


def batch(*items: ItemDone, ended_s: float = 9.0, reason: str = "full", **others: Any) -> BatchEnd:
    parts: dict[str, Any] = {"run_s": 0.25, "postprocess_s": 0.01, "commit_s": 0.02, "first_token_s": None, **others}
    return BatchEnd(7, ended_s, len(items), reason, items=list(items), **parts)


def item(request_id: str, lane: str = "default", outcome: str = "ok", **others: Any) -> ItemDone:
    return ItemDone(outcome, 0.5, 0.125, 0.0625, request_id=request_id, lane=lane, **others)


@given(NAMES, NAMES, NAMES, SECONDS, SECONDS, SECONDS, st.integers(1, 9), st.one_of(st.none(), SECONDS))
def test_what_a_consumer_writes_is_read_again(
    request_id: str,
    lane: str,
    worker: str,
    queue_s: float,
    wait_s: float,
    age_s: float,
    attempt: int,
    first_s: float | None,
) -> None:
    one = ItemDone("ok", queue_s, wait_s, wait_s, None, request_id, lane, attempt)
    packed = encode(worker, 1000.0 + age_s, [batch(one, item("other", "gold"), ended_s=1000.0, first_token_s=first_s)])
    (found,) = halves(BY_CONSUMER, packed, ENTRY_MS, request_id)[:1]
    assert isinstance(found, ConsumerHalf)
    assert (found.request_id, found.lane, found.worker, found.attempt) == (request_id, lane, worker, attempt)
    assert (found.queue_s, found.wait_s, found.decode_s, found.first_token_s) == (queue_s, wait_s, wait_s, first_s)
    assert (found.batch, found.rows, found.reason, found.lanes) == (7, 2, "full", frozenset((lane, "gold")))
    assert found.ended_ms == pytest.approx(ENTRY_MS - age_s * 1000, abs=1)
    assert found.total_s == pytest.approx(queue_s + wait_s + 0.25 + 0.03)


@given(NAMES, NAMES, SECONDS, SECONDS, SECONDS, SECONDS)
def test_what_a_front_end_writes_is_read_again(
    request_id: str, lane: str, admission_s: float, waited_s: float, back_s: float, age_s: float
) -> None:
    times = [5.0]
    for one in (admission_s, waited_s, back_s, age_s):
        times.append(times[-1] + one)
    started_s, submitted_s, replied_s, ended_s, sent_s = times
    end = (lane, request_id, "ok", started_s, submitted_s, replied_s, ended_s, TRACE)
    (found,) = halves(BY_FRONT_END, encode("fe-1", sent_s, [end]), ENTRY_MS, request_id)
    assert isinstance(found, FrontHalf)
    assert (found.lane, found.front_end, found.outcome) == (lane, "fe-1", "ok")
    assert found.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert found.admission_s == pytest.approx(admission_s, abs=1e-6)
    assert found.back_s == pytest.approx(back_s, abs=1e-6)
    assert found.total_s == pytest.approx(admission_s + waited_s + back_s, abs=1e-6)
    assert found.ended_ms == pytest.approx(ENTRY_MS - age_s * 1000, abs=1)


def test_only_the_id_that_is_asked_for_is_found_and_the_newest_first() -> None:
    ends = [batch(item("a"), item("b", attempt=1)), batch(item("b", attempt=2))]
    packed = encode("w", 10.0, ends)
    assert [one.attempt for one in halves(BY_CONSUMER, packed, ENTRY_MS, "b") if isinstance(one, ConsumerHalf)] == [
        2,
        1,
    ]
    assert halves(BY_CONSUMER, packed, ENTRY_MS, "c") == []
    assert halves(b"x", packed, ENTRY_MS, "a") == []  # of a later version


@given(st.binary(max_size=200))
@example(b"\x95" * 200)
@example(b"\x94\x01\xa1w\xcb" + b"\x7f\xf8" + bytes(6) + b"\x90")
def test_bytes_of_strangers_say_nothing_and_break_nothing(noise: bytes) -> None:
    for field in (BY_CONSUMER, BY_FRONT_END, b"z"):
        assert halves(field, noise, ENTRY_MS, "a") == [] or b"a" in noise
        assert halves(field, noise + b"a", ENTRY_MS, "a") == []


@given(st.data())
def test_a_byte_that_is_wrong_makes_no_wrong_duration(data: st.DataObject) -> None:
    packed = bytearray(encode("w", 10.0, [batch(item("the-id"))]))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    for one in halves(BY_CONSUMER, bytes(packed), ENTRY_MS, "the-id"):
        assert isinstance(one, ConsumerHalf)
        assert 0 <= one.queue_s <= 8 * 86_400
        assert 0 <= one.total_s < 1e7
        assert one.request_id == "the-id"


BAD: tuple[tuple[str, Any], ...] = (
    ("another version", [VERSION + 1, "w", 10.0, []]),
    ("no writer", [VERSION, "<script>", 10.0, [list(range(9))]]),
    (
        "a time that is none",
        [
            VERSION,
            "w",
            float("nan"),
            [[7, 9.0, 1, "full", 0.1, 0.1, 0.1, None, [["ok", 0.1, 0.1, 0.1, None, "the-id", "default", 1]]]],
        ],
    ),
    (
        "ended after it was sent",
        [
            VERSION,
            "w",
            1.0,
            [[7, 9.0, 1, "full", 0.1, 0.1, 0.1, None, [["ok", 0.1, 0.1, 0.1, None, "the-id", "default", 1]]]],
        ],
    ),
    (
        "a negative wait",
        [
            VERSION,
            "w",
            10.0,
            [[7, 9.0, 1, "full", 0.1, 0.1, 0.1, None, [["ok", -0.1, 0.1, 0.1, None, "the-id", "default", 1]]]],
        ],
    ),
    (
        "endless",
        [
            VERSION,
            "w",
            10.0,
            [[7, 9.0, 1, "full", float("inf"), 0.1, 0.1, None, [["ok", 0.1, 0.1, 0.1, None, "the-id", "default", 1]]]],
        ],
    ),
    (
        "a lane that is no name",
        [
            VERSION,
            "w",
            10.0,
            [[7, 9.0, 1, "full", 0.1, 0.1, 0.1, None, [["ok", 0.1, 0.1, 0.1, None, "the-id", "<b>", 1]]]],
        ],
    ),
    (
        "a huge reason",
        [
            VERSION,
            "w",
            10.0,
            [[7, 9.0, 1, "x" * 999, 0.1, 0.1, 0.1, None, [["ok", 0.1, 0.1, 0.1, None, "the-id", "default", 1]]]],
        ],
    ),
)


@pytest.mark.parametrize("wrong", [pytest.param(value, id=name) for name, value in BAD])
def test_what_cannot_be_is_left_out(wrong: Any) -> None:
    packed = msgspec.msgpack.encode(wrong) + b""
    assert halves(BY_CONSUMER, packed, ENTRY_MS, "the-id") == []


def test_of_an_id_that_all_requests_have_the_latest_are_found() -> None:
    packed = encode("w", 10.0, [batch(*(item("same", attempt=number + 1) for number in range(4000)))])
    found = halves(BY_CONSUMER, packed, ENTRY_MS, "same")
    assert [one.attempt for one in found if isinstance(one, ConsumerHalf)] == [*range(4000, 4000 - MOST_FOUND, -1)]


def test_an_entry_that_is_too_long_is_not_read() -> None:
    packed = encode("w", 10.0, [batch(item("the-id"))])
    assert halves(BY_CONSUMER, packed, ENTRY_MS, "the-id")
    assert halves(BY_CONSUMER, packed + bytes(MOST_ENTRY_BYTES), ENTRY_MS, "the-id") == []


def test_what_was_taken_along_has_the_number_of_its_batch_and_says_so() -> None:
    items, durations = [item("a", "night")], (0.25, 0.01, 0.02, None)
    both = [(7, 9.0, 4, "full", *durations, [item("b")], False), (7, 9.0, 4, "full", *durations, items, True)]
    packed = encode("w", 10.0, both)
    (along,) = halves(BY_CONSUMER, packed, ENTRY_MS, "a")
    (other,) = halves(BY_CONSUMER, packed, ENTRY_MS, "b")
    assert isinstance(along, ConsumerHalf)
    assert isinstance(other, ConsumerHalf)
    assert (
        (along.batch, along.rows, along.taken_along) == (other.batch, other.rows, not other.taken_along) == (7, 4, True)
    )


def test_members_of_a_later_version_behind_ours_are_passed_over() -> None:
    end = ("default", "the-id", "ok", 1.0, 2.0, 3.0, 4.0, None, "more", 5)
    assert len(halves(BY_FRONT_END, encode("fe-1", 4.0, [end]), ENTRY_MS, "the-id")) == 1


def test_the_cap_asks_at_first_then_by_time_and_by_bytes() -> None:
    cap = Cap(64_000)
    assert cap.is_due(1, 0.0)
    assert not cap.is_due(1, 1.0)
    assert cap.is_due(1, WEIGH_S)
    assert not cap.is_due(999, WEIGH_S)
    assert cap.is_due(1, WEIGH_S)


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.integers(0, 1 << 30))
def test_a_log_beyond_its_limit_is_cut_below_it(limit: int, used: int, length: int) -> None:
    most = Cap(limit).most_entries(used, length)
    if used <= limit:
        assert most is None
    else:
        assert most is not None
        assert most * (used / max(length, 1)) <= limit * LEFT_SHARE * 1.001


@pytest.mark.parametrize(("used", "length"), [(None, 1), (5, None), (ValueError(), 1), (True, 2)])
def test_a_log_that_is_gone_is_not_cut(used: Any, length: Any) -> None:
    assert Cap(1).most_entries(used, length) is None

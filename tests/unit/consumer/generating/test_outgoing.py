"""When frames go, and that none ever changes once it may have been written."""

from __future__ import annotations

import math

import pytest

from consumer.pipeline.generating.outgoing import LATER_S, SOON_S, Outgoing
from consumer.queue.interface import Emitted
from shared.wire.frames import FIRST, Frame, decode_frames, tokens_of

AT_ONCE = -math.inf
EXPIRY_MS = 60_000


def outgoing(seq: int = 0, flags: int = 0, *, is_streamed: bool = True) -> Outgoing:
    return Outgoing("a", 1, seq, EXPIRY_MS, is_streamed=is_streamed, flags=flags)


def written(one: Outgoing, now_s: float, emitted: Emitted = Emitted.WRITTEN) -> Frame:
    (frame,) = decode_frames(one.take(now_s).frame)
    one.settle(emitted, now_s)
    return frame


def test_the_first_frame_goes_at_once_and_the_next_are_collected() -> None:
    one = outgoing()
    assert one.due_s() == math.inf
    one.add([1], "a", (), 10.0)
    assert one.due_s() == AT_ONCE
    assert written(one, 10.0).text == "a"
    one.add([2], "b", (), 10.001)
    one.add([3], "c", (), 10.002)
    assert one.due_s() == pytest.approx(10.0 + SOON_S)
    frame = written(one, 10.1)
    assert (frame.seq, frame.text, tokens_of(frame.tokens)) == (1, "bc", (2, 3))
    assert one.due_s() == math.inf


def test_after_a_pause_a_frame_goes_at_once() -> None:
    one = outgoing()
    one.add([1], "a", (), 10.0)
    written(one, 10.0)
    one.add([2], "b", (), 20.0)
    assert one.due_s() <= 20.0


def test_half_a_character_is_waited_for() -> None:
    one = outgoing()
    one.add([1], "", (), 10.0)
    assert one.due_s() == 10.0 + LATER_S
    one.add([2], "é", (), 10.01)
    assert one.due_s() == AT_ONCE
    assert tokens_of(written(one, 10.01).tokens) == (1, 2)


def test_without_a_reader_frames_are_few() -> None:
    one = outgoing(is_streamed=False)
    one.add([1], "a", (), 10.0)
    assert one.due_s() == pytest.approx(10.0)
    written(one, 10.0)
    one.add([2], "b", (), 10.1)
    assert one.due_s() == pytest.approx(10.0 + LATER_S)


def test_an_attempt_and_an_end_go_at_once() -> None:
    one = outgoing(5, FIRST)
    assert one.due_s() == AT_ONCE
    frame = written(one, 10.0)
    assert (frame.seq, frame.flags, frame.tokens) == (5, FIRST, b"")
    one.add([1], "a", (), 10.0)
    one.end("stop")
    assert (one.due_s(), one.is_over) == (AT_ONCE, False)
    assert written(one, 10.0).finish == "stop"
    assert (one.is_over, one.seq) == (True, 7)


def test_a_frame_that_may_have_been_written_stays_as_it_is() -> None:
    one = outgoing()
    one.add([1], "a", (), 10.0)
    first = one.take(10.0)
    one.add([2], "b", (), 10.0)
    assert one.take(11.0) == first
    one.settle(Emitted.FULL, 11.0)
    assert one.take(12.0) == first
    one.settle(Emitted.REPEATED, 12.0)
    frame = written(one, 12.0)
    assert (frame.seq, frame.text) == (1, "b")


@pytest.mark.parametrize("emitted", [Emitted.TAKEN, Emitted.GONE, Emitted.REFUSED, Emitted.LOST])
def test_where_nothing_may_be_written_nothing_is(emitted: Emitted) -> None:
    one = outgoing()
    one.add([1], "a", (), 10.0)
    written(one, 10.0, emitted)
    one.add([2], "b", (), 10.0)
    one.end("stop")
    assert (one.due_s(), one.is_over, one.seq) == (math.inf, True, 0)
    assert one.is_lost == (emitted is Emitted.LOST)


def test_the_record_lives_on_now_and_then() -> None:
    one = outgoing()
    kept = []
    for now_s in (0.0, 1.0, 14.0, 16.0, 17.0):
        one.add([1], "a", (), now_s)
        kept.append(one.take(now_s).expiry_ms)
        one.settle(Emitted.WRITTEN, now_s)
    assert kept == [EXPIRY_MS, 0, 0, EXPIRY_MS, 0]
    one.end("stop")
    assert one.take(18.0).expiry_ms == EXPIRY_MS

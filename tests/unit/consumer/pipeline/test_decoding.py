"""Decoding: what takes too long ends alone, large pictures keep nobody waiting, and memory has a bound."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence

import pytest

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.models.pictures.decode_cost import LARGE_BYTES, Effort
from consumer.pipeline.decoding import threads as module
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.decoding.stage import Decoding
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Refused
from shared.settings import Settings
from shared.wire.messages import Request
from shared.wire.outcomes import CANCELLED, EXPIRED, INVALID_INPUT, OVERLOADED, invalid
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.helpers import eventually
from tests.unit.consumer.parts import Toy, a_context, a_thread, item

LARGE = Effort(LARGE_BYTES + 1)
SETTINGS = Settings(longest_decode_ms=200, decode_threads=1, decode_memory_mb=250)


class Decoder(Toy):
    """``hang…`` waits until it is let go, ``large…`` is large, ``huge`` too large; where each ran is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.at_work: list[str] = []
        self.done: list[tuple[str, str]] = []

    def preprocess(self, request: Request) -> Sequence[bytes]:
        body = (request.body or b"").decode()
        self.at_work.append(body)
        if "hang" in body:
            self.let_go.wait(30.0)
        self.done.append((body, threading.current_thread().name))
        return super().preprocess(request)

    def effort(self, request: Request) -> Effort | None:
        body = request.body or b""
        if body == b"refused by its header":
            raise invalid("It is too large.", "body")
        if body == b"huge":
            return Effort(251_000_000)
        return LARGE if body.startswith(b"large") else None


class Row:
    """Something of which it can be seen that it is gone."""


class Bench:
    """The stage, its intake, and what it refused."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.model, self.intake = Decoder(), Intake(Batcher(RowBudget(8), 0.0, BatchCost()))
        self.refused: list[Refused] = []
        self.worn_out = threading.Event()
        stream = InMemoryStream(InMemoryLane(lambda: 0.0), settings, "one")
        context = a_context(stream, settings)
        self.cancellations = context.cancellations
        rows = Rows(self.model, 8, self.cancellations)
        self.stage = Decoding(context, rows, self.intake, self.refused.extend, self.worn_out.set, a_thread)
        self.stage.start()

    def add(self, *bodies: str, deadline_s: float = 1e9) -> None:
        for body in bodies:
            self.stage.add(item(body, body.encode(), deadline_s=deadline_s))

    def next(self) -> list[str]:
        batch = self.intake.next_batch(10.0)
        assert batch is not None
        return [one.request.id for one in batch.items]

    def refusals(self, count: int) -> list[tuple[str, str]]:
        eventually(lambda: len(self.refused) >= count)
        return [(one.request_id, one.error.outcome.code) for one in self.refused]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.model.let_go.set()
    made.stage.shutdown()


def test_what_takes_too_long_is_invalid_and_the_next_is_decoded(bench: Bench) -> None:
    bench.add("hang", "good")
    assert bench.next() == ["good"]
    assert bench.refusals(1) == [("hang", INVALID_INPUT.code)]
    assert "longer than 0.2 s" in bench.refused[0].error.message
    assert bench.refused[0].error.field == "body"
    assert bench.intake.is_empty()  # no room is kept for it


def test_what_comes_back_after_it_was_given_up_is_thrown_away(bench: Bench) -> None:
    bench.add("hang")
    bench.refusals(1)
    bench.model.let_go.set()
    eventually(lambda: bench.model.done)
    bench.add("good")
    assert bench.next() == ["good"]
    assert bench.refusals(1) == [("hang", INVALID_INPUT.code)]


def test_shutting_down_does_not_wait_for_what_hangs(bench: Bench) -> None:
    bench.add("hang", "good", "large hang")
    bench.refusals(2)
    ended = a_thread("shutdown", bench.stage.shutdown)
    ended.start()
    ended.join(10.0)
    assert not ended.is_alive()
    assert bench.next() == ["good"]


def test_too_many_that_hang_have_the_process_renewed_and_others_are_decoded_meanwhile(bench: Bench) -> None:
    for number in range(module.MOST_WRITTEN_OFF):
        assert not bench.worn_out.is_set()
        bench.add(f"hang {number}")
        bench.refusals(number + 1)
    assert bench.worn_out.wait(10.0)
    bench.add("good")
    assert bench.next() == ["good"]


def test_a_pause_of_the_whole_process_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps by a minute between two looks, as after SIGSTOP and SIGCONT."""
    jump_s = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: time.monotonic() + jump_s[0])
    bench = Bench(Settings(longest_decode_ms=8_000))
    bench.add("hang")
    eventually(lambda: bench.model.at_work)
    jump_s[0] = 60.0
    looked_s = bench.stage._decoders._clock_s
    eventually(lambda: bench.stage._decoders._clock_s > looked_s)
    eventually(lambda: bench.stage._decoders._clock_s > looked_s + 0.5)
    assert bench.refused == []
    bench.model.let_go.set()
    assert bench.next() == ["hang"]
    bench.stage.shutdown()


def test_a_large_one_keeps_no_small_one_waiting_and_no_room_in_the_batch(bench: Bench) -> None:
    bench.add("large hang", "one")
    assert bench.next() == ["one"]
    bench.add("two")
    assert bench.next() == ["two"]
    assert bench.intake.wait_for_room(0.0) == 8
    bench.model.let_go.set()
    assert bench.next() == ["large hang"]
    assert dict(bench.model.done) == {"one": "decode", "two": "decode", "large hang": "decode-large"}


def test_large_ones_beyond_the_bound_are_refused_for_now() -> None:
    bench = Bench(Settings(longest_decode_ms=60_000, decode_threads=1, decode_memory_mb=250))
    bench.add("large hang")
    eventually(lambda: bench.model.at_work)
    waiting = [f"large {number}" for number in range(module.MOST_LARGE)]
    bench.add(*waiting, "large and too many", "small")
    assert bench.next() == ["small"]
    assert bench.refusals(1) == [("large and too many", OVERLOADED.code)]
    bench.model.let_go.set()
    bench.stage.shutdown()
    assert [one for one, _ in bench.model.done] == ["small", "large hang", *waiting]


def test_large_ones_share_the_memory_that_there_is() -> None:
    """Two fit into it, a third waits although a thread is free."""
    bench = Bench(Settings(longest_decode_ms=60_000, decode_threads=6, decode_memory_mb=250))
    bench.add("large hang 1", "large hang 2", "large hang 3", "small")
    assert bench.next() == ["small"]
    eventually(lambda: len(bench.model.at_work) == 3)
    assert sorted(bench.model.at_work) == ["large hang 1", "large hang 2", "small"]
    bench.model.let_go.set()
    bench.stage.shutdown()
    assert len(bench.model.done) == 4


def test_memory_that_hangs_is_not_waited_for_without_end() -> None:
    bench = Bench(Settings(longest_decode_ms=200, decode_threads=1, decode_memory_mb=150))
    bench.add("large hang", "large")
    assert bench.refusals(2) == [("large hang", INVALID_INPUT.code), ("large", OVERLOADED.code)]
    bench.model.let_go.set()
    eventually(lambda: not bench.stage._decoders.is_busy)
    bench.add("large later")
    assert bench.next() == ["large later"]
    bench.stage.shutdown()


def test_what_needs_more_than_all_the_memory_is_refused_with_both_figures(bench: Bench) -> None:
    bench.add("huge")
    assert bench.refusals(1) == [("huge", INVALID_INPUT.code)]
    assert "would take 251 MB, and at most 250 MB" in bench.refused[0].error.message
    assert bench.model.at_work == []


def test_what_a_header_refuses_is_not_decoded(bench: Bench) -> None:
    bench.add("refused by its header")
    assert bench.refusals(1) == [("refused by its header", INVALID_INPUT.code)]
    assert bench.model.at_work == []


def test_what_comes_too_late_or_was_cancelled_is_not_decoded(bench: Bench) -> None:
    bench.add("late", deadline_s=0.0)
    bench.refusals(1)
    gone = item("gone", b"gone")
    bench.cancellations.add([gone.entry.claim], 0.0)
    bench.stage.add(gone)
    assert bench.refusals(2) == [("late", EXPIRED.code), ("gone", CANCELLED.code)]
    assert bench.model.at_work == []


def test_an_item_taken_over_that_hangs_is_answered_and_others_may_be_taken_over(bench: Bench) -> None:
    one = item("hang", b"hang")
    one.is_isolated = one.has_begun = True
    bench.stage.add(one)
    assert bench.refusals(1) == [("hang", INVALID_INPUT.code)]
    eventually(lambda: not bench.intake.has_isolated())


def test_a_thread_that_waits_holds_on_to_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Row]] = []

    def preprocess(request: Request) -> Sequence[Row]:
        row = Row()
        made.append(weakref.ref(row))
        return [row]

    monkeypatch.setattr(bench.model, "preprocess", preprocess)
    bench.add("good")
    assert bench.next() == ["good"]
    eventually(lambda: made[0]() is None)

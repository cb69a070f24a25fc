"""The committer: every item ends with one reply, and a queue that goes away is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from consumer.batching.batcher import CloseReason
from consumer.events import BatchDone
from consumer.metrics import ConsumerMetrics
from consumer.pipeline import committer as module
from consumer.pipeline.committer import Committer, portions
from consumer.pipeline.items import BatchRun, Item, Refused, refuse
from consumer.pipeline.leases import LeaseBook
from consumer.queue.interface import Cause, Completion, Entry, StreamDown
from shared.wire.messages import Reply, decode_reply
from shared.wire.outcomes import (
    CRASHED,
    EXPIRED,
    INTERNAL,
    INVALID_INPUT,
    MALFORMED,
    MODEL_ERROR,
    RequestError,
    invalid,
)
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.fakes import RecordedTracing
from tests.helpers import eventually
from tests.unit.consumer.parts import CARD, SETTINGS, TAG, Toy, a_context, item, joined, on_thread

WARNINGS = ("The weights are random.",)
RUN = BatchRun(0.0, 0.0, 1, CloseReason.WINDOW)


class Recording(ConsumerMetrics):
    """Keeps what it is told, besides."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        super().__init__(registry, model)
        self.events: list[BatchDone] = []

    def batch_done(self, event: BatchDone) -> None:
        """See the parent."""
        self.events.append(event)
        super().batch_done(event)


class Bench:
    """A committer on a lane in memory."""

    def __init__(self) -> None:
        self.lane = InMemoryLane()
        self.stream = InMemoryStream(self.lane, SETTINGS, "one")
        self.stream.heartbeat(CARD, {})
        self.leases = LeaseBook()
        self.registry = CollectorRegistry()
        self.metrics = Recording(self.registry, "toy")
        self.events, self.idle = self.metrics.events, False
        self.committer = self.made(self.stream)
        self.thread: threading.Thread | None = None

    def made(self, stream: InMemoryStream, warnings: Sequence[str] = WARNINGS, **others: Any) -> Committer:
        """A committer that reports to this bench."""
        self.context = a_context(stream, leases=self.leases, metrics=self.metrics, **others)
        return Committer(self.context, Toy(), replace(CARD, warnings=tuple(warnings)), lambda: self.idle)

    def dead_letters(self) -> dict[str, float | None]:
        """How many have been counted, by reason."""
        name = "headrace_dead_letters_total"
        return {one: self.registry.get_sample_value(name, {"model": "toy", "reason": one}) for one in Cause}

    def claimed(self, *wanted: Item) -> list[Item]:
        """Put entries for these items on the stream, and claim them."""
        for _ in wanted:
            self.lane.add({b"m": b"message"})
        for one, entry in zip(wanted, self.stream.read(len(wanted)), strict=True):
            one.entry = entry
            self.leases.take(entry.claim)
        return list(wanted)

    def finish(
        self,
        items: Sequence[Item],
        outputs: Sequence[Any],
        *,
        idle: bool = False,
        reason: CloseReason = CloseReason.FULL,
    ) -> None:
        for one, outcome in zip(items, outputs, strict=True):
            one.outcome = outcome
        self.idle = idle
        self.committer.finish(items, BatchRun(items[0].arrived_s + 0.5, 0.25, len(items), reason))

    def start(self) -> None:
        self.thread = on_thread("commit", self.committer.run)

    def done(self) -> None:
        if self.thread is None:
            self.start()
        self.committer.close()
        assert self.thread is not None
        assert joined(self.thread)

    def reply(self, request_id: str) -> Reply:
        stored = self.lane.reply(request_id)
        assert stored is not None
        return decode_reply(stored)

    def codes(self) -> list[str]:
        return [one.outcome for event in self.events for one in event.items]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    made = Bench()
    yield made
    made.lane.down = False
    made.committer.give_up()


def test_a_finished_batch_is_answered_item_by_item(bench: Bench) -> None:
    items = bench.claimed(item("a"), item("b"))
    bench.finish(items, [[b"A"], [b"B"]])
    bench.done()
    for name in "ab":
        reply = bench.reply(name)
        assert reply.outputs is not None
        assert reply.outputs[0].data == name.upper().encode()
        assert (reply.fault, reply.model, reply.attempt) == (None, TAG, 1)
        assert list(reply.warnings) == list(WARNINGS)
        assert bench.lane.hints["me"][ord(name) - ord("a")] == (name, bench.lane.reply(name))
    assert bench.codes() == ["ok", "ok"]
    assert len(bench.leases) == 0
    assert bench.lane.commits == 1


def test_a_few_replies_are_committed_at_once_while_nothing_else_waits(bench: Bench) -> None:
    few, many = bench.claimed(item("a")), bench.claimed(*(item(name) for name in "bcdef"))
    bench.finish(many, [[b"B"]] * 5, idle=True)
    assert bench.codes() == []  # handed over: the committing thread has not been started
    bench.finish(few, [[b"A"]], idle=True)
    assert bench.codes() == []  # not before those that were handed over earlier
    bench.done()
    assert bench.codes() == ["ok"] * 6
    late = bench.claimed(item("g"))
    bench.finish(late, [[b"G"]], idle=False)
    assert bench.codes() == ["ok"] * 6
    alone = Bench()
    alone.finish(alone.claimed(item("h")), [[b"H"]], idle=True)
    assert alone.codes() == ["ok"]  # on this thread


def test_what_ran_alone_is_committed_before_anything_else_runs(bench: Bench) -> None:
    bench.finish(bench.claimed(item("a")), [[b"A"]])
    bench.finish(bench.claimed(item("b")), [[b"B"]], reason=CloseReason.ISOLATED)
    assert bench.codes() == ["ok"]  # on this thread, although another one waits for the committing thread
    assert bench.lane.reply("b") is not None
    bench.done()


def test_tracing_is_told_of_traced_requests_only(bench: Bench) -> None:
    tracing, parent = RecordedTracing(), f"00-{'a' * 32}-{'b' * 16}-01"
    bench.committer = bench.made(bench.stream, (), tracing=tracing)
    followed, plain, alone = bench.claimed(item("followed"), item("plain"), item("alone"))
    followed.request = replace(followed.request, traceparent=parent)
    bench.finish([followed, plain], [[b"X"], [b"X"]])
    bench.finish([alone], [[b"X"]])
    bench.done()
    [batch] = tracing.batches
    [request] = batch.requests
    assert (request.request_id, request.traceparent, request.outcome) == ("followed", parent, "ok")
    assert (request.queue_wait_s, request.batch_wait_s) == pytest.approx((0.001, 0.5))
    assert (batch.model, batch.precision, batch.rows, batch.reason) == ("toy", "fp32", 2, "full")
    assert batch.run_s == 0.25


def test_the_timing_counts_in_microseconds(bench: Bench) -> None:
    (one,) = bench.claimed(item("a"))
    one.decode_s = 0.125
    bench.finish([one], [[b"A"]])
    bench.done()
    timing = bench.reply("a").timing
    assert (timing.queue, timing.wait, timing.decode, timing.run, timing.batch) == (1000, 500_000, 125_000, 250_000, 1)


def test_the_attempt_is_the_entrys(bench: Bench) -> None:
    (one,) = bench.claimed(item("a"))
    one.entry = Entry(one.entry.entry_id, one.entry.added_ms, b"", attempt=3)
    bench.finish([one], [[b"A"]])
    bench.done()
    assert bench.reply("a").attempt == 3


@pytest.mark.parametrize(("body", "code"), [(b"sour", INVALID_INPUT.code), (b"spoilt", MODEL_ERROR.code)])
def test_an_answer_that_cannot_be_made_fails_alone(bench: Bench, body: bytes, code: str) -> None:
    items = bench.claimed(item("a"), item("bad", body), item("c"))
    bench.finish(items, [[b"A"], [b"B"], [b"C"]])
    bench.done()
    fault = bench.reply("bad").fault
    assert fault is not None
    assert fault.code == code
    assert bench.codes() == ["ok", code, "ok"]
    assert bench.reply("c").fault is None


def test_an_answer_that_no_message_can_hold_fails_alone(bench: Bench) -> None:
    items = bench.claimed(item("a"), item("bad", b"silent"), item("c"))
    bench.finish(items, [[b"A"], [b"B"], [b"C"]])
    try:
        bench.committer.close()
        bench.committer.run()
    except TypeError as error:
        pytest.fail(f"the stage crashed, and with it the batchmates' answers: {error}")
    fault = bench.reply("bad").fault
    assert fault is not None
    assert fault.code == MODEL_ERROR.code
    assert bench.codes() == ["ok", MODEL_ERROR.code, "ok"]


def test_an_item_that_failed_in_the_batch_is_answered_with_its_error(bench: Bench) -> None:
    items = bench.claimed(item("a"))
    bench.finish(items, [RequestError(MODEL_ERROR, "It failed.", field="body")])
    bench.done()
    fault = bench.reply("a").fault
    assert fault is not None
    assert (fault.code, fault.message, fault.field) == (MODEL_ERROR.code, "It failed.", "body")
    assert list(bench.reply("a").warnings) == []


def refused(one: Item, error: RequestError, ttl_ms: int = 1000) -> Refused:
    return Refused(one.entry, one.request.id, one.request.reply_to or "", ttl_ms, error)


def test_lasting_refusals_are_stored_and_expired_ones_only_hinted(bench: Bench) -> None:
    first, second = bench.claimed(item("bad"), item("late"))
    bench.committer.refuse([refused(first, invalid("No.")), refused(second, RequestError(EXPIRED, "Late."))])
    bench.done()
    assert bench.reply("bad").fault is not None
    assert bench.lane.reply("late") is None
    hint_id, hint = bench.lane.hints["me"][1]
    assert hint is not None
    fault = decode_reply(hint).fault
    assert fault is not None
    assert (hint_id, fault.code) == ("late", EXPIRED.code)
    assert bench.codes() == [INVALID_INPUT.code, EXPIRED.code]
    assert bench.events[0].reason is None


def test_dead_letters_are_counted_by_reason_once_they_are_written(bench: Bench) -> None:
    poison, ahead, lost = bench.claimed(item("poison"), item("ahead"), item("lost"))
    bench.stream.commit([Completion(lost.entry.entry_id, "lost", "", 1000, b"another consumer was faster")])
    assert bench.dead_letters() == {"crashed": 0, "unreadable": 0, "future_id": 0}
    crashed = RequestError(CRASHED, "No more."), "It ended 2 consumers while it ran alone.", 2
    future = RequestError(MALFORMED, "No."), "Its id lies in the future."
    bench.lane.down = True
    bench.committer.refuse([refuse(poison, *crashed), refuse(ahead, *future), refuse(lost, *crashed)])
    bench.start()
    bench.lane.down = False
    bench.done()
    assert len(bench.lane.dead) == 2
    assert bench.dead_letters() == {"crashed": 1, "unreadable": 0, "future_id": 1}


def test_a_reply_outlives_its_deadline_by_four_leases(bench: Bench) -> None:
    (one,) = bench.claimed(item("a"))
    before_ms = bench.lane.now_ms()
    bench.committer.refuse([refused(one, RequestError(MALFORMED, "No."), ttl_ms=1000)])
    bench.done()
    assert bench.lane.replies["a"][1] >= before_ms + 1000 + 4 * SETTINGS.lease_ms


def test_a_request_may_say_how_long_its_reply_stays(bench: Bench) -> None:
    ran, bad, late = bench.claimed(item("ran"), item("bad"), item("late"))
    for one in (ran, bad, late):
        one.request = replace(one.request, keep_ms=3_000_000)
    bench.finish([ran], [[b"x"]])
    bench.committer.refuse([refuse(bad, invalid("No.")), refuse(late, RequestError(EXPIRED, "Late."))])
    bench.done()
    longest_ms = bench.lane.now_ms() + 3_000_000
    for name in ("ran", "bad"):
        assert longest_ms - 60_000 < bench.lane.replies[name][1] <= longest_ms
    assert bench.lane.reply("late") is None


def test_a_queue_that_goes_away_is_tried_again(bench: Bench) -> None:
    items = bench.claimed(item("a"))
    bench.lane.down = True
    bench.finish(items, [[b"A"]])
    bench.start()
    assert len(bench.leases) == 1
    bench.lane.down = False
    eventually(lambda: bench.lane.reply("a"))
    bench.done()
    assert len(bench.leases) == 0


def test_a_commit_whose_answer_was_lost_is_repeated_harmlessly(bench: Bench) -> None:
    items = bench.claimed(item("a"))
    bench.lane.lost_answers = 2
    bench.finish(items, [[b"A"]])
    bench.done()
    assert bench.lane.commits == 3
    outputs = bench.reply("a").outputs
    assert outputs is not None
    assert outputs[0].data == b"A"


def test_giving_up_ends_the_tries_and_frees_the_leases(bench: Bench) -> None:
    items = bench.claimed(item("a"))
    bench.lane.down = True
    bench.finish(items, [[b"A"]])
    bench.start()
    bench.committer.give_up()
    bench.done()
    assert len(bench.leases) == 0
    assert bench.lane.reply("a") is None


def test_everything_handed_over_before_closing_is_committed(bench: Bench) -> None:
    bench.start()
    for number in range(20):
        items = bench.claimed(item(f"r{number}"))
        bench.finish(items, [[b"x"]])
    bench.done()
    assert bench.codes() == ["ok"] * 20
    assert all(bench.lane.reply(f"r{number}") for number in range(20))


def test_large_replies_are_committed_in_portions() -> None:
    ended = [Completion(b"%d-0" % size, "a", "", 1000, bytes(size)) for size in (3, 4, 9, 1, 2, 3)]
    assert [[len(one.reply) for one in some] for some in portions(ended, 7)] == [[3, 4], [9], [1, 2, 3]]
    assert list(portions([], 7)) == []


class Narrow(InMemoryStream):
    """Lets commits through one by one when told to, and notes how many are under way at once."""

    def __init__(self, lane: InMemoryLane) -> None:
        super().__init__(lane, SETTINGS, "one")
        self.gate, self.under_way, self.most = threading.Semaphore(0), 0, 0

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        assert self.gate.acquire(timeout=10)
        self.under_way -= 1
        return super().commit(completions)


def test_nothing_is_committed_on_another_thread_while_the_committing_thread_commits(bench: Bench) -> None:
    """Both would talk on one connection at once."""
    stream = Narrow(bench.lane)
    committer = bench.made(stream)
    dead, kept = bench.claimed(item("dead"), item("kept"))
    committing = on_thread("commit", committer.run)
    committer.refuse([Refused(dead.entry, "dead", "me", 0, RequestError(EXPIRED, "Too late."))])
    eventually(lambda: stream.under_way)
    kept.outcome = [b"K"]
    prepared = committer.prepare([kept], RUN)
    executing = on_thread("executor", lambda: committer.commit(prepared))
    executing.join(0.05)
    assert executing.is_alive()
    stream.gate.release(2)
    assert joined(executing)
    committer.close()
    assert joined(committing)
    assert stream.most == 1
    assert bench.codes() == ["expired", "ok"]
    assert len(bench.leases) == 0


def test_what_was_committed_elsewhere_is_settled(bench: Bench) -> None:
    (one,) = bench.claimed(item("a"))
    one.outcome = [b"A"]
    prepared = bench.committer.prepare([one], RUN)
    assert bench.codes() == []
    bench.stream.commit(prepared.completions)
    bench.committer.settle(prepared)
    assert (bench.codes(), len(bench.leases), bench.lane.commits) == (["ok"], 0, 1)


class Picky(InMemoryStream):
    """Takes no commit with more than so many bytes of replies in it, whoever asks how often."""

    def __init__(self, lane: InMemoryLane, most_bytes: int) -> None:
        super().__init__(lane, SETTINGS, "one")
        self.most_bytes, self.refused = most_bytes, 0

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        if sum(len(one.reply) for one in completions) > self.most_bytes:
            self.refused += 1
            raise StreamDown("Connection reset by peer.")
        return super().commit(completions)


def picky(bench: Bench, monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> Picky:
    """Have the bench's committer speak to a stream that takes replies up to a size only."""
    monkeypatch.setattr(module, "LARGE_BYTES", 1000)
    stream = Picky(bench.lane, most_bytes)
    bench.committer = bench.made(stream)
    return stream


@pytest.mark.parametrize("idle", [False, True])
def test_an_answer_that_can_never_be_stored_ends_with_an_error_and_its_batchmates_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    stream = picky(bench, monkeypatch, 5_000)
    items = bench.claimed(item("a"), item("huge"), item("c"), item("d"))
    bench.finish(items, [[b"A"], [bytes(20_000)], [b"C"], [b"D"]], idle=idle)
    bench.done()
    reply = bench.reply("huge")
    assert reply.fault is not None
    assert (reply.fault.code, reply.outputs, reply.attempt) == (INTERNAL.code, None, 1)
    assert "bytes, could not be stored" in reply.fault.message
    assert reply.timing.run == 250_000
    for name in "acd":
        assert bench.reply(name).fault is None
    assert bench.codes() == ["ok", INTERNAL.code, "ok", "ok"]
    assert len(bench.leases) == 0
    assert stream.refused == module.MOST_TRIES * 3  # all four, then two, then the one


def test_answers_that_are_too_many_at_once_are_committed_in_halves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky(bench, monkeypatch, 5_000)
    items = bench.claimed(*(item(f"r{number}") for number in range(9)))
    bench.finish(items, [[bytes(2_000)]] * 9)
    bench.done()
    assert bench.codes() == ["ok"] * 9
    assert all(bench.reply(f"r{number}").fault is None for number in range(9))
    assert len(bench.leases) == 0


def test_an_error_that_takes_the_place_of_an_answer_lives_as_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky(bench, monkeypatch, 5_000)
    (one,) = bench.claimed(item("huge"))
    before_ms = bench.lane.now_ms()
    bench.finish([one], [[bytes(20_000)]])
    bench.done()
    assert bench.lane.replies["huge"][1] >= before_ms + one.request.ttl_ms


@pytest.mark.parametrize("away", ["down", "refuses commits"])
def test_a_large_answer_outlives_any_time_in_which_nothing_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    stream = picky(bench, monkeypatch, 50_000)
    items = bench.claimed(item("huge"))
    if away == "down":
        bench.lane.down = True
    else:
        stream.most_bytes = -1  # every other call is answered, as while the disk is full
    tried = threading.Event()
    commit, tries = stream.commit, iter(range(1_000_000))

    def counted(completions: Sequence[Completion]) -> list[int]:
        if next(tries) == 10 * module.MOST_TRIES:
            tried.set()
        return commit(completions)

    monkeypatch.setattr(stream, "commit", counted)
    bench.finish(items, [[bytes(20_000)]])
    bench.start()
    assert tried.wait(10)
    bench.lane.down, stream.most_bytes = False, 50_000
    bench.done()
    assert bench.reply("huge").fault is None
    assert bench.codes() == ["ok"]


def test_a_small_answer_is_tried_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = picky(bench, monkeypatch, 10)
    monkeypatch.setattr(module, "LARGE_BYTES", 1_000_000)
    items = bench.claimed(item("a"))
    bench.finish(items, [[b"A"]])
    bench.start()
    eventually(lambda: stream.refused > 10 * module.MOST_TRIES)
    stream.most_bytes = 5_000
    bench.done()
    assert bench.codes() == ["ok"]


def test_giving_up_ends_the_tries_of_a_large_answer_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = picky(bench, monkeypatch, -1)
    items = bench.claimed(item("huge"))
    bench.finish(items, [[bytes(20_000)]])
    bench.start()
    eventually(lambda: stream.refused > module.MOST_TRIES)
    bench.committer.give_up()
    bench.done()
    assert len(bench.leases) == 0
    assert bench.lane.reply("huge") is None


def test_an_answer_for_whose_bytes_its_lane_has_no_room_ends_with_an_error(bench: Bench) -> None:
    """Only hinted: who asks again later with the same id has it run anew. Its batchmates are answered."""
    bench.lane.limit_bytes = 50_000
    items = bench.claimed(item("a"), item("b"), item("c"))
    bench.finish(items, [[bytes(40_000)], [bytes(40_000)], [b"C"]])
    bench.done()
    assert [bench.lane.reply(name) is None for name in "abc"] == [False, True, False]
    fault = decode_reply(next(told for name, told in bench.lane.hints["me"] if name == "b") or b"").fault
    assert fault is not None
    assert fault.code == "lane_full"
    assert "has no room in lane default" in fault.message
    assert bench.codes() == ["ok", "lane_full", "ok"]
    assert len(bench.leases) == 0

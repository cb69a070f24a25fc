"""The fetcher: good requests go on, bad ones back to their sender, and a queue in trouble is waited for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from prometheus_client import CollectorRegistry

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.metrics import ConsumerMetrics
from consumer.pipeline import fetcher as module
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.decoding.stage import Decoding
from consumer.pipeline.fetcher import Fetcher
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item, Refused
from consumer.pipeline.source import BatchSource
from consumer.queue import entry_reader, redis_lanes
from consumer.queue.interface import Completion, Entry
from consumer.queue.shared_bodies import SharedBodies
from producer_api.queue.body_store import BodyStore
from shared.wire import bodies
from shared.wire.bodies import BODY_GONE, Owner
from shared.wire.messages import Request, Tensor, encode_request
from shared.wire.outcomes import CANCELLED, CRASHED, EXPIRED, INVALID_INPUT, MALFORMED, MODEL_ERROR
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.helpers import eventually
from tests.unit.consumer.parts import CARD, RAW, SETTINGS, Toy, a_context, a_thread, joined, message, on_thread

MAX_ROWS = 4


class Counting(ConsumerMetrics):
    """Keeps what it is told, besides."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        super().__init__(registry, model)
        self.malformed_counts: list[int] = []
        self.redelivered_counts: list[int] = []

    def malformed(self, count: int) -> None:
        """See the parent."""
        self.malformed_counts.append(count)

    def redelivered(self, count: int) -> None:
        """See the parent."""
        self.redelivered_counts.append(count)


class Bench:
    """A fetcher on a lane in memory whose clock the test moves."""

    def __init__(self, bodies: SharedBodies | None = None) -> None:
        self.now_ms = 1_000_000.0
        self.lane = InMemoryLane(lambda: self.now_ms)
        self.stream = InMemoryStream(self.lane, SETTINGS, "one")
        self.stream.heartbeat(CARD, {})
        self.model = Toy()
        self.intake = Intake(Batcher(RowBudget(64), 0.0, BatchCost()))
        self.refused: list[Refused] = []
        self.gone, self.worn_out = threading.Event(), threading.Event()
        self.metrics = Counting(CollectorRegistry(), "toy")
        self.stop = threading.Event()
        context = a_context(self.stream, metrics=self.metrics, bodies=bodies or SharedBodies(is_on=False))
        self.leases, self.cancellations = context.leases, context.cancellations
        rows = Rows(self.model, MAX_ROWS, self.cancellations)
        self.decoding = Decoding(context, rows, self.intake, self.refuse, self.worn_out.set, a_thread)
        self.decoding.start()
        self.fetcher = Fetcher(context, rows, self.intake, self.decoding, self.refuse, self.gone.set)
        self.source = BatchSource(context, self.intake, rows, self.refuse)

    def refuse(self, some: Sequence[Refused]) -> None:
        self.refused.extend(some)

    def accept(self, *messages: bytes) -> None:
        for one in messages:
            self.lane.add({b"m": one})
        self.fetcher.accept(self.stream.read(len(messages)))

    def ready(self) -> list[Item]:
        """What has reached the intake; afterwards nothing more can."""
        self.decoding.shutdown()
        self.intake.close()
        items: list[Item] = []
        while (batch := self.intake.next_batch()) is not None:
            items += [*batch.items, *batch.expired]
        return items

    def unreadable(self) -> float | None:
        """How many dead letters of this kind have been counted."""
        labels = {"model": "toy", "reason": "unreadable"}
        return self.metrics.registry.get_sample_value("headrace_dead_letters_total", labels)

    def faults(self) -> list[tuple[str, str, str | None]]:
        return [(one.request_id, one.error.outcome.code, one.error.field) for one in self.refused]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(module, "SCANS_PER_LEASE", math.inf)
    made = Bench()
    yield made
    made.stop.set()
    made.decoding.shutdown()


def test_good_requests_reach_the_intake_in_order(bench: Bench) -> None:
    bench.accept(message("a", b"1"), message("b", b"rows:3"), message("c", b"2"))
    items = bench.ready()
    assert [one.request.id for one in items] == ["a", "b", "c"]
    assert [one.load.rows for one in items] == [1, 3, 1]
    assert [list(one.rows) for one in items] == [[b"1"], [b"rows:3"] * 3, [b"2"]]
    assert bench.refused == []
    assert len(bench.leases) == 3


def test_pictures_are_made_into_rows_by_the_pool(bench: Bench) -> None:
    bench.accept(message("a", b"picture"))
    (one,) = bench.ready()
    assert one.decode_s > 0
    assert all(name.startswith("decode") for name in bench.model.threads)


def test_the_wait_in_the_queue_and_the_deadline_count_on_redis_clock(bench: Bench) -> None:
    bench.lane.add({b"m": message("a", ttl_ms=5000)})
    bench.now_ms += 2000
    bench.stream.heartbeat(CARD, {})
    bench.fetcher.accept(bench.stream.read(1))
    (one,) = bench.ready()
    assert one.queued_s == pytest.approx(2.0, abs=0.5)
    assert one.deadline_s - one.arrived_s == pytest.approx(3.0, abs=0.5)


def test_what_expired_in_the_queue_is_refused_before_any_work(bench: Bench) -> None:
    bench.lane.add({b"m": message("late", b"break", ttl_ms=1000, reply_to="me")})
    bench.now_ms += 2000
    bench.stream.heartbeat(CARD, {})
    bench.fetcher.accept(bench.stream.read(1))
    assert bench.faults() == [("late", EXPIRED.code, None)]
    assert bench.refused[0].reply_to == "me"
    assert bench.model.threads == set()
    assert bench.ready() == []


def test_too_many_rows_are_refused_by_number(bench: Bench) -> None:
    bench.accept(message("a", b"rows:5"), message("b", b"rows:0"), message("c", b"rows:4"))
    assert bench.faults() == [("a", INVALID_INPUT.code, "inputs"), ("b", INVALID_INPUT.code, "inputs")]
    assert "1 to 4 rows, not 5" in bench.refused[0].error.message
    assert [one.request.id for one in bench.ready()] == ["c"]


@pytest.mark.parametrize("body", [b"refuse", b"picture"])
def test_what_the_model_does_not_want_is_refused(bench: Bench, body: bytes) -> None:
    bench.model.preprocess = lambda request: Toy().preprocess(  # type: ignore[method-assign]
        type(request)(request.id, request.ttl_ms, RAW, b"refuse")
    )
    bench.accept(message("a", body))
    assert bench.ready() == []
    assert bench.faults() == [("a", INVALID_INPUT.code, "body")]


def test_a_bug_in_preprocessing_fails_its_request_only(bench: Bench) -> None:
    bench.accept(message("bad", b"break"), message("good"))
    assert bench.faults() == [("bad", MODEL_ERROR.code, None)]
    assert "a bug in the model" not in bench.refused[0].error.message
    assert [one.request.id for one in bench.ready()] == ["good"]


def test_a_bug_in_choosing_the_decoder_fails_its_request_only(bench: Bench) -> None:
    def decodes(request: Any) -> bool:
        if request.id == "bad":
            raise ZeroDivisionError
        return False

    bench.model.decodes = decodes  # type: ignore[method-assign]
    try:
        bench.accept(message("bad"), message("good"))
    except ZeroDivisionError:
        pytest.fail("the stage crashed, and would again after every restart")
    assert [code for _, code, _ in bench.faults()] == [MODEL_ERROR.code]
    assert [one.request.id for one in bench.ready()] == ["good"]


def test_a_bad_message_with_an_id_goes_back_to_its_sender(bench: Bench) -> None:
    bad = msgpack.packb({"v": 1, "id": "bad", "ttl_ms": 0, "ct": RAW, "body": b"", "rt": "me"})
    bench.accept(bad, message("good"))
    assert bench.faults() == [("bad", MALFORMED.code, "ttl_ms")]
    assert bench.refused[0].reply_to == "me"
    assert [one.request.id for one in bench.ready()] == ["good"]


def test_messages_nobody_can_be_told_about_are_removed_and_counted(bench: Bench) -> None:
    bench.accept(b"\xc1", b"", msgpack.packb({"id": "a}b"}), msgpack.packb([1]), message("good"))
    assert bench.metrics.malformed_counts == [4]
    assert bench.refused == []
    assert [one.request.id for one in bench.ready()] == ["good"]
    assert bench.stream.depth()["default"].pending == 1
    assert len(bench.leases) == 1


def test_messages_nobody_can_be_told_about_are_kept_for_the_operator(bench: Bench) -> None:
    bench.accept(b"\xc1")
    ((reason, crashes, kept),) = bench.lane.dead
    assert reason.endswith(".")
    assert (crashes, kept) == (0, b"\xc1")
    assert bench.unreadable() == 1


def test_an_entry_without_the_field_m_is_removed(bench: Bench) -> None:
    bench.lane.add({b"x": message("a")})
    bench.fetcher.accept(bench.stream.read(1))
    assert bench.metrics.malformed_counts == [1]
    assert bench.stream.depth()["default"].pending == 0


def test_no_message_can_crash_the_stage(bench: Bench) -> None:
    nested = b"\x91" * 1010 + b"\xc0"
    hostile = [
        b"\x82\xa2id\xa1a\xa1v" + nested,
        msgpack.packb({"id": "a", "v": 1, b"x": 1}),
        msgpack.packb({"id": "a", "v": msgpack.Timestamp(1, 0)}),
        msgpack.packb({"id": "a", "v": "9" * 1_000_000}),
    ]
    try:
        bench.accept(*hostile)
    except RecursionError:
        pytest.fail("the stage crashed, and would again after every restart")
    for one in bench.refused:
        assert one.error.field is None or isinstance(one.error.field, str)
        assert len(one.error.message) < 1000


def test_an_entry_that_is_held_already_is_not_run_twice(bench: Bench) -> None:
    bench.lane.add({b"m": message("a")})
    (entry,) = bench.stream.read(1)
    bench.fetcher.accept([entry])
    bench.fetcher.accept([Entry(entry.entry_id, entry.added_ms, entry.message, 2)])
    assert len(bench.ready()) == 1


def test_an_id_from_the_future_counts_as_now_in_the_lane_of_all(bench: Bench) -> None:
    request = message("a", ttl_ms=60_000)
    bench.fetcher.accept([Entry(b"9-1", int(bench.now_ms) + 3_600_000, request)])
    (item,) = bench.ready()
    assert item.deadline_s - item.arrived_s == pytest.approx(60.0, abs=0.5)


def test_an_id_from_the_future_is_a_dead_letter_in_a_lane_of_its_own(bench: Bench) -> None:
    ahead_ms = int(bench.now_ms) + 3_600_000
    bench.fetcher.accept(
        [Entry(b"9-1", ahead_ms, message("a"), lane="shop"), Entry(b"9-2", 1, message("b"), 1, "shop")]
    )
    bench.fetcher.accept([Entry(b"9-3", int(bench.now_ms) + 1000, message("c"), lane="shop")])
    future, expired = bench.refused
    assert (future.error.outcome, future.entry.lane) == (MALFORMED, "shop")
    assert "lane repair" in future.reason
    assert (expired.error.outcome, expired.reason) == (EXPIRED, "")
    assert [item.request.id for item in bench.ready()] == ["c"]


def test_a_body_in_shared_memory_is_taken_where_its_request_may_run_and_else_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request taken over, or from the future, may become a dead letter, which is to hold all of it."""
    monkeypatch.setattr(bodies, "ROOT", tmp_path)
    store, reader = BodyStore("fe-1", 1 << 20), SharedBodies()
    reader.identity()
    bench = Bench(reader)

    def entry(name: str, ahead_ms: int = 0, lane: str = "shop", owner: str = "toy") -> Entry:
        at = store.put(bytes(20_000), Owner(owner, lane, name))
        assert at is not None
        request = encode_request(Request(name, 60_000, RAW, at=at.text()))
        return Entry(f"{name}-1".encode(), int(bench.now_ms) + ahead_ms, request, lane=lane)

    bench.fetcher.accept([entry("1"), entry("2", owner="cat"), entry("3", 3_600_000)])
    bench.fetcher.accept([entry("4", 3_600_000, "default")])
    bench.fetcher.accept([entry("5")], isolated=True)
    assert [(one.request_id, one.error.outcome, one.reason) for one in bench.refused] == [
        (name, BODY_GONE, "") for name in "235"
    ]
    assert [(item.request.id, item.request.body) for item in bench.ready()] == [
        ("1", bytes(20_000)),
        ("4", bytes(20_000)),
    ]
    store.close()
    reader.close()


def test_a_clock_that_was_set_back_kills_nothing(bench: Bench) -> None:
    bench.now_ms -= 3_600_000
    bench.fetcher.accept([Entry(b"9-1", int(bench.now_ms) + 3_600_000, message("a"), lane="shop")])
    (item,) = bench.ready()
    assert item.deadline_s - item.arrived_s == pytest.approx(60.0, abs=0.5)


def test_a_clock_that_was_set_forward_kills_nothing(bench: Bench) -> None:
    bench.now_ms += 3_600_000
    bench.fetcher.accept([Entry(b"9-1", int(bench.now_ms), message("a"), lane="shop")])
    assert [item.request.id for item in bench.ready()] == ["a"]


def test_removing_bad_entries_survives_a_queue_that_goes_away(bench: Bench) -> None:
    bench.lane.add({b"m": b"\xc1"})
    entries = bench.stream.read(1)
    bench.lane.down = True
    bench.fetcher.accept(entries)
    assert bench.metrics.malformed_counts == [1]
    assert bench.unreadable() == 0  # it is not written yet, and comes back
    assert len(bench.leases) == 0


# --- the loop ------------------------------------------------------------------------------------------------------


def test_the_loop_reads_until_it_is_stopped(bench: Bench) -> None:
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    for number in range(10):
        bench.lane.add({b"m": message(f"r{number}")})
    eventually(lambda: len(bench.leases) == 10)
    bench.stop.set()
    assert joined(running)
    assert [one.request.id for one in bench.ready()] == [f"r{number}" for number in range(10)]


def test_a_missing_stream_asks_for_a_heartbeat_and_goes_on(bench: Bench) -> None:
    bench.lane.flush()
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    assert bench.gone.wait(10)
    bench.stream.heartbeat(CARD, {})
    bench.lane.add({b"m": message("a")})
    eventually(lambda: len(bench.leases) == 1)
    bench.stop.set()
    assert joined(running)


def test_a_queue_that_goes_away_is_tried_until_it_answers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.lane.down = True
    with caplog.at_level("INFO", logger="consumer.pipeline.fetcher"):
        running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
        eventually(lambda: "does not answer" in caplog.text)
        bench.lane.down = False
        bench.lane.add({b"m": message("a")})
        eventually(lambda: len(bench.leases) == 1)
        bench.stop.set()
        assert joined(running)
    assert caplog.text.count("trying again until it does") == 1
    assert "answers again" in caplog.text


def test_abandoned_work_is_taken_over_and_counted(bench: Bench) -> None:
    bench.lane.add({b"m": message("a")})
    InMemoryStream(bench.lane, SETTINGS, "dead").read(1)
    bench.now_ms += SETTINGS.lease_ms
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    eventually(lambda: bench.metrics.redelivered_counts)
    eventually(lambda: len(bench.leases) == 1)
    bench.stop.set()
    assert joined(running)
    (one,) = bench.ready()
    assert one.entry.attempt == 2


def taken_over(bench: Bench, body: bytes, crashes: int, *, ttl_ms: int = 60_000) -> Item | None:
    """Have an entry taken over whose consumer has died, and then others while it ran alone."""
    bench.lane.add({b"m": message("a", body, ttl_ms=ttl_ms, reply_to="me")})
    InMemoryStream(bench.lane, SETTINGS, "dead").read(1)
    for number in range(crashes):
        bench.now_ms += SETTINGS.lease_ms
        other = InMemoryStream(bench.lane, SETTINGS, f"dead-{number}")
        (entry,) = other.reclaim(1)
        assert other.begin_isolated(entry)
    bench.now_ms += SETTINGS.lease_ms
    bench.stream.heartbeat(CARD, {})
    (entry,) = bench.stream.reclaim(1)
    bench.fetcher.accept([entry], isolated=True)
    batch = bench.intake.next_batch(0)
    return batch.items[0] if batch is not None else None


def test_what_was_taken_over_is_counted_when_its_decoding_begins(bench: Bench) -> None:
    """Decoding may be what ended its consumer, and it happens on the threads for that."""
    assert taken_over(bench, b"picture", crashes=0) is None or bench.model.threads == {"decode"}
    assert eventually(lambda: bench.model.threads) == {"decode"}
    bench.decoding.shutdown()
    bench.now_ms += SETTINGS.lease_ms
    (again,) = InMemoryStream(bench.lane, SETTINGS, "next").reclaim(1)
    assert again.attempt == 3


def test_what_was_taken_over_runs_alone_once_it_is_decoded(bench: Bench) -> None:
    item = taken_over(bench, b"picture", crashes=0)
    if item is None:
        batch = bench.intake.next_batch(10.0)
        assert batch is not None
        item = batch.items[0]
    assert (item.rows, item.has_begun) == ([b"picture"], True)
    bench.lane.down = True
    assert bench.source._begins(item)  # nothing is asked any more


def test_what_was_taken_over_may_be_refused(bench: Bench) -> None:
    one = taken_over(bench, b"refuse", crashes=0)
    assert one is not None
    assert not bench.source._begins(one)
    assert bench.faults() == [("a", INVALID_INPUT.code, "body")]


def test_what_was_answered_by_another_meanwhile_does_not_begin(bench: Bench) -> None:
    one = taken_over(bench, b"x", crashes=0)
    assert one is not None
    bench.stream.commit([Completion(one.entry.entry_id, "a", "", 1000, b"reply")])
    assert not bench.source._begins(one)
    assert len(bench.leases) == 0


def test_a_queue_that_goes_away_before_a_lone_run_leaves_the_entry_to_the_next(bench: Bench) -> None:
    one = taken_over(bench, b"x", crashes=0)
    assert one is not None
    bench.lane.down = True
    assert not bench.source._begins(one)
    assert len(bench.leases) == 0


def test_what_could_not_begin_alone_is_not_read_into_company(bench: Bench) -> None:
    """In Redis it is still this worker's, and so among what a worker reads again once its connection is back."""
    one = taken_over(bench, b"x", crashes=0)
    assert one is not None
    bench.lane.down = True
    assert not bench.source._begins(one)
    bench.lane.down = False
    bench.fetcher.accept([one.entry])
    assert bench.intake.next_batch(0) is None
    assert len(bench.leases) == 0
    bench.now_ms += SETTINGS.lease_ms
    bench.fetcher.accept(bench.stream.reclaim(1), isolated=True)
    batch = bench.intake.next_batch(0)
    assert batch is not None
    assert bench.source._begins(batch.items[0])


@pytest.mark.parametrize("crashes", [0, 1])
def test_an_entry_is_tried_again_until_it_has_ended_two_consumers_alone(bench: Bench, crashes: int) -> None:
    one = taken_over(bench, b"x", crashes)
    assert one is not None
    assert one.entry.attempt == crashes + 2
    assert bench.refused == []


def test_what_ended_two_consumers_alone_is_a_dead_letter(bench: Bench) -> None:
    assert taken_over(bench, b"x", crashes=2) is None
    (one,) = bench.refused
    assert (one.error.outcome, one.crashes, one.reason) == (CRASHED, 2, "It ended 2 consumers while it ran alone.")


def test_what_crashed_and_expired_is_a_dead_letter_that_releases_its_id(bench: Bench) -> None:
    assert taken_over(bench, b"x", crashes=1, ttl_ms=2000) is None
    (one,) = bench.refused
    assert (one.error.outcome, one.crashes) == (EXPIRED, 1)
    assert one.reason.startswith("It ended a consumer")


def test_what_ended_two_consumers_alone_keeps_its_id_although_its_deadline_has_passed(bench: Bench) -> None:
    """Released, it would cost whoever asks again as many consumers once more."""
    assert taken_over(bench, b"x", crashes=2, ttl_ms=2000) is None
    (one,) = bench.refused
    assert (one.error.outcome, one.crashes) == (CRASHED, 2)


def test_what_expired_in_a_crash_that_may_not_be_its_fault_is_no_dead_letter(bench: Bench) -> None:
    assert taken_over(bench, b"x", crashes=0, ttl_ms=1000) is None
    assert [(one.error.outcome, one.reason) for one in bench.refused] == [(EXPIRED, "")]


def test_only_one_entry_taken_over_waits_at_a_time(bench: Bench) -> None:
    for number in range(3):
        bench.lane.add({b"m": message(f"r{number}")})
    InMemoryStream(bench.lane, SETTINGS, "dead").read(3)
    bench.now_ms += SETTINGS.lease_ms
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    ids: list[str] = []
    for _ in range(3):
        batch = bench.intake.next_batch(10.0)
        assert batch is not None
        ids += [one.request.id for one in batch.items]
        assert bench.metrics.redelivered_counts == [1] * len(ids)  # while it runs, no other one is begun
        bench.intake.end_isolated()
    bench.stop.set()
    assert joined(running)
    assert ids == ["r0", "r1", "r2"]
    assert bench.metrics.redelivered_counts == [1, 1, 1]


def test_its_own_slow_work_is_not_taken_over(bench: Bench) -> None:
    bench.accept(message("a"))
    bench.now_ms += SETTINGS.lease_ms
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    bench.lane.add({b"m": message("b")})
    eventually(lambda: len(bench.leases) == 2)
    bench.stop.set()
    assert joined(running)
    assert bench.metrics.redelivered_counts == []
    assert [one.request.id for one in bench.ready()] == ["a", "b"]


def test_while_there_is_no_room_nothing_is_claimed(bench: Bench) -> None:
    bench.intake.begin_decoding(64)
    for _ in range(3):
        bench.lane.add({b"m": message("a")})
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    bench.stop.set()
    assert joined(running)
    assert bench.stream.depth()["default"].pending == 0


def test_the_reading_thread_ends_after_a_read_of_the_executor(bench: Bench) -> None:
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    bench.fetcher.overlaps.clear()
    eventually(lambda: bench.fetcher.reading.acquire(blocking=False))  # as the executor holds it while it reads
    bench.stop.set()
    running.join(0.05)
    assert running.is_alive()
    bench.fetcher.reading.release()
    assert joined(running)


def test_what_was_cancelled_is_refused_before_it_is_decoded(bench: Bench) -> None:
    bench.cancellations.add([("default", bench.lane.add({b"m": message("gone", b"picture")}) or b"")], 0.0)
    bench.fetcher.accept(bench.stream.read(1))
    assert bench.faults() == [("gone", CANCELLED.code, None)]
    bench.accept(message("a"))
    assert [one.request.id for one in bench.ready()] == ["a"]


def test_abandoned_work_does_not_wait_for_new_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other is taken over; a read that waits in between would take its whole time for each of them."""
    count, waited = 20, list[int]()
    for number in range(count):
        bench.lane.add({b"m": message(f"a{number}")})
    InMemoryStream(bench.lane, SETTINGS, "dead").read(count)
    bench.now_ms += SETTINGS.lease_ms
    read = bench.stream.read

    def watched(most: int, *, wait: bool = True) -> list[Entry]:
        if wait:
            waited.append(len(bench.metrics.redelivered_counts))
        return read(most, wait=wait)

    monkeypatch.setattr(bench.stream, "read", watched)
    running = on_thread("fetch", lambda: bench.fetcher.run(bench.stop))
    ids: list[str] = []
    while len(ids) < count:
        batch = bench.intake.next_batch(10.0)
        assert batch is not None
        ids += [one.request.id for one in batch.items]
        bench.intake.end_isolated()
    eventually(lambda: waited)
    bench.stop.set()
    assert joined(running)
    assert ids == [f"a{number}" for number in range(count)]
    assert min(waited) == count


def test_a_message_that_is_too_long_is_not_decoded_and_its_sender_is_told(bench: Bench) -> None:
    bench.fetcher._most_message_bytes = 1000
    bench.accept(message("a", bytes(2000)), b"\x81\xa1x" + bytes(2000), message("b", b"1"))
    assert [one.request.id for one in bench.ready()] == ["b"]
    assert bench.faults() == [("a", MALFORMED.code, None)]
    assert "2" in bench.refused[0].error.message
    assert bench.unreadable() == 1


def test_an_entry_of_a_million_fields_is_looked_through_no_further_than_its_first() -> None:
    fields = [b"x", b"y"] * 1_000_000
    for place, found in ((0, b"here"), (2, b"here"), (2 * redis_lanes.MOST_FIELDS, None)):
        answer = [[b"stream", [(b"1-1", [*fields[:place], b"m", b"here", *fields])]]]
        assert [one.message for one in redis_lanes.entries(answer, "default")] == [found]


def test_large_messages_are_made_rows_of_by_the_pool(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_reader, "LARGE_BYTES", 100)
    bench.accept(message("a", bytes(200)))
    assert [one.request.id for one in bench.ready()] == ["a"]
    assert {name.partition("_")[0] for name in bench.model.threads} == {"decode"}


def test_texts_that_do_not_fill_their_tensor_are_malformed(bench: Bench) -> None:
    request = Request("a", 60_000, inputs=(Tensor("x", "BYTES", (2,), b"\0\0\0\0"),))
    bench.accept(encode_request(request))
    assert bench.ready() == []
    assert bench.faults() == [("a", MALFORMED.code, "inputs[0].data")]

"""The executor of generations with the null engine, on a queue in memory: it is stepped through without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from consumer.config import ConsumerConfig
from consumer.generation.null_engine import NullEngine
from consumer.loading.warmup import Calibration
from consumer.models.generate import null
from consumer.models.generate.generator import Generator
from consumer.pipeline.pipeline import Pipeline
from consumer.pipeline.stored.results import ResultKeeper
from consumer.queue.interface import Completion
from shared.model_config import ModelConfig
from shared.settings import Settings
from shared.wire.frames import ALONE, FIRST, HANDED_OVER, Frame, decode_frames, encode_frame, pack_tokens
from shared.wire.generation import CONTENT_TYPE, Generation, encode_generation
from shared.wire.messages import Reply, Request, decode_reply, encode_request
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.helpers import eventually
from tests.unit.consumer.parts import CARD, a_context, a_thread

KEEPER: ResultKeeper | None = None


class Gate:
    """Lets the engine step as often as a test says; wide open after ``open``."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self.steps = 0
        self._is_open = False

    def __call__(self) -> None:
        if not self._is_open:
            self._steps.acquire()
        self.steps += 1

    def let(self, steps: int) -> None:
        self._steps.release(steps)

    def open(self) -> None:
        self._is_open = True
        self._steps.release(1)


class Bench:
    """One consumer with a null engine on a lane in memory."""

    def __init__(self, slots: int = 4, drain_ms: int = 0, lane: InMemoryLane | None = None, name: str = "one") -> None:
        self.settings = Settings(lease_ms=1500, generation_drain_ms=drain_ms)
        self.lane = lane or InMemoryLane()
        self.stream = InMemoryStream(self.lane, self.settings, name)
        self.stream.heartbeat(CARD, {})
        self.gate = Gate()
        self.engine = NullEngine(slots, 4096, self.gate)
        made = null.build({})
        made.load("cpu", "fp32")
        reader = made.opened.reader
        self.model = Generator(lambda device, precision: null.Null(self.engine, reader))  # type: ignore[arg-type]
        self.model.load("cpu", "fp32")
        self.context = a_context(self.stream, self.settings)
        config = ConsumerConfig("toy", ModelConfig("generate"), self.settings, name, "fp32", 32, 0.0, "adaptive", 0)
        new_thread: Callable[[str, Callable[[], None]], threading.Thread] = a_thread
        self.pipeline = Pipeline(config, self.context, KEEPER, lambda: None, lambda: None, new_thread)
        self.thread = a_thread("executor", lambda: self.pipeline.run(self.model, CARD, Calibration((), 32)))
        self.thread.start()

    def ask(self, name: str, wanted: Generation, ttl_ms: int = 60_000) -> bytes:
        request = Request(name, ttl_ms, CONTENT_TYPE, encode_generation(wanted), reply_to="me")
        entry = self.lane.add({b"m": encode_request(request)})
        assert entry is not None
        return entry

    def frames(self, name: str) -> list[Frame]:
        with self.lane.changed:
            written = list(self.lane.records.get(name, (b"", [], 0.0))[1])
        return decode_frames(b"".join(written))

    def tokens(self, name: str) -> int:
        return sum(len(frame.tokens) // 4 for frame in self.frames(name))

    def reply(self, name: str) -> Reply:
        return decode_reply(eventually(lambda: self.lane.reply(name)))

    def close(self) -> None:
        self.gate.open()
        self.pipeline.stop()
        self.thread.join(20.0)
        assert not self.thread.is_alive()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_sequences_join_while_others_run(bench: Bench) -> None:
    bench.ask("a", Generation(prompt="a", max_tokens=8, stream=True))
    bench.gate.let(3)
    eventually(lambda: bench.tokens("a") == 3)
    bench.ask("b", Generation(prompt="b", max_tokens=2, temperature=0, stream=True))
    eventually(lambda: bench.lane.stream is not None and len(bench.context.leases) == 2)
    bench.gate.let(3)
    generated = bench.reply("b").generated
    assert generated is not None
    assert generated.choices[0].text == "bb"
    assert bench.lane.reply("a") is None
    bench.gate.open()
    assert bench.reply("a").generated is not None


def test_nothing_is_claimed_that_could_not_start() -> None:
    bench = Bench(slots=2)
    try:
        for name in "abcd":
            bench.ask(name, Generation(prompt=name, max_tokens=5))
        eventually(lambda: len(bench.context.leases) == 2)
        bench.gate.let(3)
        eventually(lambda: bench.gate.steps == 3)
        assert len(bench.context.leases) == 2
        bench.gate.open()
        assert [bench.reply(name).generated is not None for name in "abcd"] == [True] * 4
    finally:
        bench.close()


def test_a_cancelled_one_is_gone_within_two_steps(bench: Bench) -> None:
    entry = bench.ask("a", Generation(prompt="a", max_tokens=4000, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    bench.lane.cancel(entry)
    bench.context.cancellations.add([("default", entry)], time.monotonic())
    bench.gate.let(2)
    eventually(lambda: bench.engine.capacity().slots == 4)
    assert bench.gate.steps <= 4
    eventually(lambda: len(bench.context.leases) == 0)
    assert bench.lane.reply("a") is None


def test_one_that_another_consumer_has_is_dropped(bench: Bench) -> None:
    """Nobody told it: the frame that was refused does."""
    entry = bench.ask("a", Generation(prompt="a", max_tokens=4000, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    bench.lane.now_ms, real = (lambda: time.time() * 1000 + 1e6), bench.lane.now_ms
    other = InMemoryStream(bench.lane, bench.settings, "other")
    other.heartbeat(CARD, {})
    (taken,) = other.reclaim(1)
    bench.lane.now_ms = real
    assert taken.entry_id == entry
    bench.gate.let(1)
    eventually(lambda: bench.gate.steps == 3)
    bench.gate.open()
    eventually(lambda: bench.engine.capacity().slots == 4)
    assert bench.tokens("a") == 2
    assert other.commit([Completion(entry, "a", "me", 60_000, b"theirs")]) == [1]


def taken_over(frames: list[Frame], name: str = "a", *, deliveries: int = 1, max_tokens: int = 12) -> Bench:
    """A consumer that finds an entry whose lease is over, with a record."""
    lane = InMemoryLane()
    settings = Settings(lease_ms=1500)
    dead = InMemoryStream(lane, settings, "dead")
    dead.heartbeat(CARD, {})
    wanted = Generation(prompt="abc", max_tokens=max_tokens, temperature=0, stream=True)
    request = Request(name, 1, CONTENT_TYPE, encode_generation(wanted), reply_to="me")
    entry = lane.add({b"m": encode_request(request)})
    assert entry is not None
    dead.read(1)
    if frames:
        lane.records[name] = (entry, [encode_frame(frame) for frame in frames], lane.now_ms())
    assert lane.stream is not None
    assert lane.stream.group is not None
    (held,) = lane.stream.group.pending.values()
    held.since_ms, held.deliveries = float("-inf"), deliveries
    return Bench(lane=lane)


def test_one_that_has_begun_goes_on_although_its_time_to_begin_is_over() -> None:
    bench = taken_over([Frame("a", 0, 1, pack_tokens(b"abcab"), "abcab")])
    try:
        bench.gate.open()
        reply = bench.reply("a")
        assert reply.generated is not None
        assert (reply.generated.choices[0].text, reply.generated.usage.generated) == ("abcabcabcabc", 12)
        frames = bench.frames("a")
        assert "".join(frame.text for frame in frames) == "abcabcabcabc"
        assert (frames[1].attempt, frames[1].flags, reply.attempt) == (2, FIRST, 2)
    finally:
        bench.close()


def test_one_that_has_not_begun_expires() -> None:
    bench = taken_over([])
    try:
        eventually(lambda: not bench.lane.stream or not bench.lane.stream.entries)
        assert bench.lane.reply("a") is None
        assert bench.gate.steps == 0
    finally:
        bench.close()


def test_an_unproven_one_begins_alone_and_then_counts_as_any_other() -> None:
    bench = taken_over([Frame("a", 0, 1, pack_tokens(b"a"), "a")])
    try:
        bench.ask("b", Generation(prompt="b", max_tokens=100))
        eventually(lambda: bench.engine.capacity().slots == 3)
        bench.gate.let(2)
        eventually(lambda: bench.gate.steps == 2)
        assert bench.engine.capacity().slots == 3
        bench.gate.let(4)
        eventually(lambda: bench.engine.capacity().slots == 2)
        assert bench.lane.stream is not None
        assert bench.lane.stream.group is not None
        assert min(lease.deliveries for lease in bench.lane.stream.group.pending.values()) == 1
        assert [frame.flags for frame in bench.frames("a")][1] == FIRST | ALONE
        bench.gate.open()
        bench.reply("a")
        bench.reply("b")
    finally:
        bench.close()


def test_one_whose_answer_alone_is_missing_is_not_generated_again() -> None:
    bench = taken_over([Frame("a", 0, 1, pack_tokens(b"abc"), "abc", 0, "stop")])
    try:
        generated = bench.reply("a").generated
        assert generated is not None
        assert (generated.choices[0].text, generated.choices[0].finish_reason) == ("abc", "stop")
        assert (generated.frames, bench.gate.steps) == (1, 0)
    finally:
        bench.close()


def test_one_that_ended_many_consumers_is_given_up() -> None:
    bench = taken_over([Frame("a", seq, seq + 1, pack_tokens(b"abcab"), "abcab", FIRST) for seq in range(8)])
    try:
        fault = bench.reply("a").fault
        assert fault is not None
        assert fault.code == "crashed"
        assert len(bench.lane.dead) == 1
    finally:
        bench.close()


def test_a_consumer_that_stops_hands_over_what_runs() -> None:
    bench = Bench()
    bench.ask("a", Generation(prompt="abc", max_tokens=4000, temperature=0, stream=True))
    bench.gate.let(5)
    eventually(lambda: bench.tokens("a") >= 5)
    bench.close()
    frames = bench.frames("a")
    assert frames[-1].flags & HANDED_OVER
    assert not frames[-1].finish
    made = bench.tokens("a")
    other = Bench(lane=bench.lane, name="two")
    try:
        eventually(lambda: len(other.context.leases) == 1)
        other.gate.let(1)
        eventually(lambda: other.tokens("a") == made + 1)
    finally:
        other.close()


def test_an_engine_that_fails_as_a_whole_fails_those_in_it_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    step = bench.engine.step

    def broken() -> list[object]:
        monkeypatch.setattr(bench.engine, "step", step)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(bench.engine, "step", broken)
    bench.gate.open()
    bench.ask("a", Generation(prompt="abc", max_tokens=3))
    fault = bench.reply("a").fault
    assert fault is not None
    assert fault.code == "model_error"
    bench.ask("b", Generation(prompt="abc", max_tokens=3))
    assert bench.reply("b").generated is not None


def test_a_queue_that_does_not_answer_costs_no_token(bench: Bench) -> None:
    bench.ask("a", Generation(prompt="abc", max_tokens=9, temperature=0, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    bench.lane.down = True
    bench.gate.let(4)
    eventually(lambda: bench.gate.steps == 6)
    bench.lane.down = False
    bench.gate.open()
    generated = bench.reply("a").generated
    assert generated is not None
    assert generated.choices[0].text == "abcabcabc" == "".join(frame.text for frame in bench.frames("a"))

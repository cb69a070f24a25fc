"""The thread that writes frames: one call for all, nothing lost while the queue is away or full."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from consumer.pipeline.generating.emitter import Emitter
from consumer.pipeline.generating.outgoing import Outgoing
from consumer.queue.interface import Claim, Emission, Emitted, Record, StreamDown
from shared.wire.frames import decode_frames
from tests.helpers import eventually
from tests.unit.consumer.parts import joined, on_thread


class Records:
    """Takes frames as it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[Emission]] = []
        self.answers: list[Emitted | Exception] = []
        self.gate = threading.Event()
        self.gate.set()

    def emit(self, frames: Sequence[Emission]) -> list[Emitted]:
        """See the interface."""
        self.gate.wait(10.0)
        self.calls.append(list(frames))
        answer = self.answers.pop(0) if self.answers else Emitted.WRITTEN
        if isinstance(answer, Exception):
            raise answer
        return [answer] * len(frames)

    def record(self, claim: Claim, request_id: str) -> Record | None:
        """See the interface."""
        return None

    def hand_over(self, claims: Sequence[Claim]) -> int:
        """See the interface."""
        return 0

    def texts(self, name: str) -> list[str]:
        """The texts of the frames of a request, in order."""
        mine = [one.frame for call in self.calls for one in call if one.request_id == name]
        return [frame.text for encoded in mine for frame in decode_frames(encoded)]


class Bench:
    def __init__(self) -> None:
        self.records = Records()
        self.written = 0
        self.emitter = Emitter(self.records, self.wrote)
        self.thread = on_thread("frames", self.emitter.run)
        self.ended: list[str] = []

    def wrote(self, frames: int) -> None:
        self.written += frames

    def begin(self, name: str) -> Outgoing:
        outgoing = Outgoing(name, 1, 0, 60_000)
        self.emitter.begin(("default", name.encode()), name, "me", outgoing)
        return outgoing

    def add(self, *parts: tuple[Outgoing, str]) -> None:
        def change() -> None:
            for outgoing, text in parts:
                outgoing.add([1], text, (), 0.0)

        self.emitter.notify(change)

    def end(self, name: str, outgoing: Outgoing) -> None:
        claim = ("default", name.encode())
        self.emitter.end(claim, partial(outgoing.end, "stop"), partial(self.ended.append, name))

    def close(self) -> None:
        self.records.gate.set()
        self.emitter.close()
        assert joined(self.thread)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.emitter.give_up()
    made.close()


def test_the_frames_of_a_step_are_one_call(bench: Bench) -> None:
    one, two = bench.begin("a"), bench.begin("b")
    bench.add((one, "A"), (two, "B"))
    eventually(lambda: bench.records.calls)
    assert [emission.request_id for emission in bench.records.calls[0]] == ["a", "b"]
    assert [emission.reply_to for emission in bench.records.calls[0]] == ["me", "me"]
    bench.end("a", one)
    bench.end("b", two)
    eventually(lambda: bench.ended == ["a", "b"])


def test_while_a_call_is_out_frames_collect(bench: Bench) -> None:
    bench.records.gate.clear()
    one = bench.begin("a")
    for text in "ABC":
        bench.add((one, text))
    bench.end("a", one)
    assert bench.ended == []
    bench.records.gate.set()
    eventually(lambda: bench.ended == ["a"])
    assert "".join(bench.records.texts("a")) == "ABC"
    assert len(bench.records.calls) <= 2


def test_what_is_not_answered_is_sent_again_as_it_was(bench: Bench) -> None:
    bench.records.answers = [StreamDown("lost"), Emitted.REPEATED]
    one = bench.begin("a")
    bench.add((one, "A"))
    eventually(lambda: len(bench.records.calls) == 2)
    assert bench.records.calls[0] == bench.records.calls[1]
    bench.end("a", one)
    eventually(lambda: bench.ended == ["a"])
    assert one.seq == 2


def test_a_full_server_gets_the_answer_without_the_last_frames(bench: Bench) -> None:
    """It takes answers, and the answer is whole."""
    one = bench.begin("a")
    bench.add((one, "A"))
    eventually(lambda: one.seq == 1)
    bench.records.answers = [Emitted.FULL] * 50
    bench.add((one, "B"))
    bench.end("a", one)
    eventually(lambda: bench.ended == ["a"])
    assert one.seq == 1


def test_a_full_server_that_has_room_again_gets_every_frame(bench: Bench) -> None:
    bench.records.answers = [Emitted.FULL]
    one = bench.begin("a")
    bench.add((one, "A"))
    eventually(lambda: one.seq == 1)
    assert bench.records.texts("a") == ["A", "A"]
    bench.end("a", one)
    eventually(lambda: bench.ended == ["a"])


def test_one_that_is_lost_is_not_written_and_disturbs_nobody(bench: Bench) -> None:
    bench.records.answers = [Emitted.LOST]
    one, two = bench.begin("a"), bench.begin("b")
    bench.add((one, "A"))
    eventually(lambda: one.is_lost)
    bench.add((one, "A"), (two, "B"))
    eventually(lambda: bench.records.texts("b") == ["B"])
    assert bench.records.texts("a") == ["A"]
    bench.emitter.drop(("default", b"a"))
    bench.end("b", two)
    eventually(lambda: bench.ended == ["b"])
    bench.close()


def test_whoever_gives_up_is_answered_without_frames(bench: Bench) -> None:
    bench.records.answers = [StreamDown("away")] * 1000
    one = bench.begin("a")
    bench.add((one, "A"))
    bench.end("a", one)
    eventually(lambda: bench.records.calls)
    assert bench.ended == []
    bench.emitter.give_up()
    eventually(lambda: bench.ended == ["a"])


def test_what_waits_for_the_queue_runs_on_its_thread(bench: Bench) -> None:
    names: list[str] = []
    bench.emitter.soon(lambda: names.append(threading.current_thread().name))
    eventually(lambda: names == ["frames"])


def test_a_first_frame_waits_for_no_others(bench: Bench) -> None:
    old = [bench.begin(str(number)) for number in range(3)]
    bench.add(*((one, "a") for one in old))
    eventually(lambda: all(one.seq == 1 for one in old))
    new = bench.begin("new")
    bench.add(*((one, "b") for one in old), (new, "first"))
    eventually(lambda: bench.records.texts("2") == ["a", "b"])
    calls = [[one.request_id for one in call] for call in bench.records.calls]
    assert calls[calls.index(["new"]) + 1 :] == [["0", "1", "2"]]
    for name, one in zip(("0", "1", "2", "new"), (*old, new), strict=True):
        bench.end(name, one)
    eventually(lambda: len(bench.ended) == 4)

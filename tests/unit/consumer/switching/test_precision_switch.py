"""Where a worker stands with the operator's wishes."""

from __future__ import annotations

import pytest

from consumer.queue.interface import StreamDown
from consumer.switching.precision_switch import Switch
from shared.settings import Settings
from shared.state.desired_state import DesiredPrecision, WorkerState, from_fields, from_hash, to_hash
from tests.fake_stream import InMemoryLane, InMemoryStream


class Bench:
    """Two workers of one model, and what they were told."""

    def __init__(self) -> None:
        self.lane = InMemoryLane()
        self.halts: list[str] = []
        self.beats: list[str] = []
        self.first, self.second = self.worker("one"), self.worker("two")

    def worker(self, name: str, own: str = "fp32") -> Switch:
        stream = InMemoryStream(self.lane, Settings(), name)
        return Switch(stream, own, lambda: self.halts.append(name), lambda: self.beats.append(name), lambda _: "")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_a_wish_nothing_happens(bench: Bench) -> None:
    assert bench.first.at_start() == "fp32"
    bench.first.look()
    bench.first.finish()
    assert (bench.halts, bench.beats, bench.first.published) == ([], [], ("", "", ""))


def test_one_after_the_other(bench: Bench) -> None:
    bench.lane.desired_precision = DesiredPrecision("bf16", "w1")
    for switch in (bench.first, bench.second, bench.first, bench.second):
        switch.look()
    assert bench.halts == ["one"]
    assert bench.first.wanted == "bf16"
    assert (bench.first.published, bench.second.published) == (("w1", "switching", ""), ("w1", "waiting", ""))
    bench.first.finish()
    assert (bench.first.published, bench.first.requested) == (("w1", "done", ""), "bf16")
    bench.first.look()
    bench.second.look()
    assert bench.halts == ["one", "two"]
    bench.second.finish("It is too far off.")
    assert (bench.second.published, bench.second.requested) == (("w1", "refused", "It is too far off."), "fp32")
    bench.second.look()
    assert bench.halts == ["one", "two"]


def test_the_same_wish_made_again_is_tried_again(bench: Bench) -> None:
    bench.lane.desired_precision = DesiredPrecision("bf16", "w1")
    bench.first.look()
    bench.first.finish("no.")
    bench.lane.desired_precision = DesiredPrecision("bf16", "w2")
    bench.first.look()
    assert bench.halts == ["one", "one"]
    bench.first.finish()
    bench.lane.desired_precision = DesiredPrecision("bf16", "w3")
    bench.first.look()
    assert bench.halts == ["one", "one"]  # it runs so already
    assert bench.first.published == ("w3", "done", "")


def test_default_leads_back_to_ones_own(bench: Bench) -> None:
    other = bench.worker("three", own="tf32")
    bench.lane.desired_precision = DesiredPrecision("bf16", "w1")
    assert other.at_start() == "bf16"
    other.finish()
    bench.lane.desired_precision = DesiredPrecision("default", "w2")
    other.look()
    assert (bench.halts, other.wanted) == (["three"], "tf32")
    other.finish()
    assert other.requested == "tf32"


def test_a_wish_that_is_no_precision_is_refused(bench: Bench) -> None:
    bench.lane.desired_precision = DesiredPrecision("fp7", "w1")
    bench.first.look()
    assert bench.second.at_start() == "fp32"
    for switch in (bench.first, bench.second):
        token, progress, refusal = switch.published
        assert (token, progress) == ("w1", "refused")
        assert "'fp7' is not a precision" in refusal
    assert bench.halts == []


def test_a_wish_of_the_middle_of_another_comes_after_it(bench: Bench) -> None:
    bench.lane.desired_precision = DesiredPrecision("bf16", "w1")
    bench.first.look()
    bench.lane.desired_precision = DesiredPrecision("default", "w2")
    bench.first.look()
    assert (bench.first.wanted, bench.halts) == ("bf16", ["one"])
    bench.first.finish()
    bench.first.look()
    assert (bench.first.wanted, bench.halts) == ("fp32", ["one", "one"])


def test_a_silent_queue_neither_starts_nor_breaks_anything(bench: Bench) -> None:
    bench.lane.down = True
    assert bench.first.at_start() == "fp32"
    with pytest.raises(StreamDown):
        bench.first.look()
    bench.lane.down = False
    bench.lane.desired_precision = DesiredPrecision("bf16", "w1")
    bench.first.look()
    bench.lane.down = True
    bench.first.finish()
    assert bench.first.published == ("w1", "done", "")


def test_what_a_worker_says_is_read_back_and_odd_hashes_do_no_harm() -> None:
    state = WorkerState("7", "bf16", "cpu", "it agrees.", "w1", "done", "")
    assert from_hash({name.encode(): text.encode() for name, text in to_hash(state).items()}) == state
    assert from_hash({b"pid": b"7", b"seen_ms": b"1", b"why": b"\xff"}) == WorkerState(pid="7", why="\ufffd")
    assert from_fields(b"bf16", b"w1") == DesiredPrecision("bf16", "w1")
    for pair in ((None, b"w1"), (b"bf16", None), (b"bf 16", b"w1"), (b"bf16", b"\xff"), (b"", b"w")):
        assert from_fields(*pair) is None


def test_what_must_be_searched_for_first_waits_without_a_turn_and_is_refused_without_draining() -> None:
    lane, halts, answers = InMemoryLane(), [], {"int8": None, "bf16": ""}
    stream = InMemoryStream(lane, Settings(), "one")
    switch = Switch(stream, "fp32", lambda: halts.append(1), lambda: None, lambda precision: answers[precision])
    lane.desired_precision = DesiredPrecision("int8", "w1")
    for _ in range(2):
        switch.look()
    assert (switch.published, lane.turn[0], halts) == (("w1", "waiting", ""), "", [])
    answers["int8"] = "int8 is refused: it is too far off."
    switch.look()
    assert (switch.published, halts) == (("w1", "refused", "int8 is refused: it is too far off."), [])
    switch.look()
    lane.desired_precision = DesiredPrecision("bf16", "w2")
    switch.look()
    assert (switch.published, halts) == (("w2", "switching", ""), [1])
    switch.finish()
    answers["int8"] = ""  # found meanwhile, by another consumer
    lane.desired_precision = DesiredPrecision("int8", "w3")
    switch.look()
    assert (switch.published, switch.wanted, halts) == (("w3", "switching", ""), "int8", [1, 1])

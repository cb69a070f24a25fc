"""A consumer's half of the request log: what is collected, when it is written, what is dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from consumer.batching.batcher import CloseReason
from consumer.events import BatchDone, ItemDone
from consumer.request_log import request_log as module
from consumer.request_log.request_log import RequestLog
from shared.wire.request_log import BY_CONSUMER, ConsumerHalf, halves
from tests.helpers import eventually


class Bench:
    """A log that writes into a list."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.dropped: list[int] = []
        self.works = True
        self.log = RequestLog("w1", self.write, self.dropped.append)
        self.thread = threading.Thread(target=self.log.run)

    def write(self, packed: bytes) -> bool:
        """Take an entry, or fail."""
        if self.works:
            self.written.append(packed)
        return self.works

    def add(self, *ids: str, number: int = 1) -> None:
        """Note a batch of requests."""
        items = [ItemDone("ok", 0.1, 0.1, 0.0, request_id=one, lane="default") for one in ids]
        self.log.add(
            BatchDone(items, len(ids), CloseReason.FULL, run_s=0.1, postprocess_s=0.1, commit_s=0.1), number, "full"
        )

    def found(self, request_id: str) -> list[ConsumerHalf]:
        """What the entries written so far say of an id."""
        some = [one for packed in self.written for one in halves(BY_CONSUMER, packed, 5, request_id)]
        return [one for one in some if isinstance(one, ConsumerHalf)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.log.close()
    if made.thread.is_alive():
        made.thread.join()


def test_what_ended_meanwhile_is_one_entry(bench: Bench) -> None:
    bench.add("a", "b", number=1)
    bench.add("c", number=2)
    bench.log.flush()
    assert len(bench.written) == 1
    assert [(bench.found(one)[0].batch, bench.found(one)[0].rows) for one in "abc"] == [(1, 2), (1, 2), (2, 1)]
    bench.log.flush()
    assert len(bench.written) == 1


def test_its_thread_writes_soon_and_what_is_left_when_it_ends(bench: Bench) -> None:
    bench.thread.start()
    bench.add("a")
    eventually(lambda: bench.found("a"))
    bench.add("b")
    bench.log.close()
    bench.thread.join()
    assert bench.found("b")


def test_nothing_is_lost_between_two_threads(bench: Bench) -> None:
    bench.thread.start()
    for number in range(2000):
        bench.add(f"r{number}", number=number)
        if number % 100 == 0:
            bench.log.flush()
    bench.log.close()
    bench.thread.join()
    assert [bool(bench.found(f"r{number}")) for number in range(0, 2000, 7)] == [True] * 286
    assert bench.dropped == []


def test_what_does_not_fit_or_cannot_be_written_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 3)
    bench.add("a", "b")
    bench.add("c", "d")
    assert bench.dropped == [2]
    bench.works = False
    bench.log.flush()
    assert bench.dropped == [2, 2]
    bench.works = True
    bench.add("e")
    bench.log.flush()
    assert bench.found("e")


def test_a_batch_larger_than_an_entry_goes_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PER_ENTRY", 3)
    bench.add("a", "b")
    bench.add(*"cdefgh")
    bench.add("i")
    bench.log.flush()
    assert [len(bench.found(one)) for one in "abcdefghi"] == [1] * 9
    assert len(bench.written) == 3


def test_an_entry_too_long_to_be_read_is_not_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRY_BYTES", 10)
    bench.add("a")
    bench.log.flush()
    assert (bench.written, bench.dropped) == ([], [1])

"""The quick path: who reads and who commits, and that what is held is committed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.pipeline import executor as module
from consumer.pipeline import inline_executor
from consumer.pipeline.committer import Committer
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.decoding.stage import Decoding
from consumer.pipeline.fetcher import Fetcher, Read
from consumer.pipeline.inline_executor import InlineExecutor
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import BatchRun, Item, Prepared
from consumer.pipeline.source import BatchSource
from tests.children import ROOT
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.unit.consumer.parts import CARD, SETTINGS, Collected, Finished, Toy, a_context, item, message


class Held(Collected):
    """Stands for a committer too: notes which batches were held."""

    def __init__(self, on_finish: Callable[[Finished], None] = lambda finished: None) -> None:
        super().__init__(on_finish)
        self.holds: list[bool] = []

    def finish(self, items: Sequence[Item], run: BatchRun) -> None:
        """See the interface."""
        self.holds.append(False)
        super().finish(items, run)

    def prepare(self, items: Sequence[Item], run: BatchRun) -> Prepared:
        """As the committer, without making replies."""
        self.holds.append(True)
        super().finish(items, run)
        return Prepared(items, run, (), (), 0.0, 0.0)

    def commit(self, prepared: Prepared) -> None:
        """Nothing to commit."""


class ScriptedReader:
    """Stands for a fetcher: reads what a test has prepared, and closes the intake at the end."""

    def __init__(self, intake: Intake, script: list[list[Item]]) -> None:
        self._intake, self._script = intake, script
        self.reads_by_executor = 0
        self.reading = threading.Lock()
        reader = self

        class Switch(threading.Event):
            def set(self) -> None:
                super().set()
                reader.next_step()  # the reader's own thread starts with a read

        self.overlaps: threading.Event = Switch()
        self.overlaps.set()

    def read_once(self, read: Read) -> bool:
        self.reads_by_executor += 1
        self.next_step()
        return True

    def next_step(self) -> None:
        if self._script:
            self._intake.add(self._script.pop(0))
        else:
            self._intake.close()


def run_inline(model: Toy, intake: Intake, reader: ScriptedReader, replies: Held) -> None:
    context = a_context()
    source = BatchSource(context, intake, Rows(model, 64, context.cancellations), replies.refuse)
    fetcher, committer = cast(Fetcher, reader), cast(Committer, replies)
    InlineExecutor(context, model, BatchCost(), intake, fetcher, committer, threading.Event()).run(source, replies)


def read_while_running(sizes: list[int], run_s: float, window_s: float) -> ScriptedReader:
    """Run batches of these sizes, each taking ``run_s``; the reader's own thread is played by the end of each batch."""
    clock = [0.0]
    intake = Intake(Batcher(RowBudget(64), window_s, BatchCost()))
    script = [[item(f"{number}-{index}") for index in range(size)] for number, size in enumerate(sizes)]
    reader = ScriptedReader(intake, script)

    class Timed(Toy):
        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            clock[0] += run_s
            return super().run(rows)

    def finish(finished: Finished) -> None:
        if reader.overlaps.is_set():
            reader.next_step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", lambda: clock[0])
        run_inline(Timed(), intake, reader, Held(finish))
    return reader


def test_the_executor_reads_for_itself_while_batches_are_small_and_quick() -> None:
    reader = read_while_running([1] * 40, run_s=0.00001, window_s=0.0)
    assert not reader.overlaps.is_set()
    assert reader.reads_by_executor > 10


@pytest.mark.parametrize(
    ("size", "run_s", "window_s"),
    [(1, 0.02, 0.0), (20, 0.02, 0.0), (1, 0.00001, 0.001)],
    ids=["slow", "slow and many", "window"],
)
def test_reading_overlaps_with_running_otherwise(size: int, run_s: float, window_s: float) -> None:
    reader = read_while_running([size] * 40, run_s, window_s)
    assert reader.overlaps.is_set()
    assert reader.reads_by_executor <= 1  # the first, before anything is known about the model


def test_reading_overlaps_with_decoding() -> None:
    """A quick model whose requests are decoded by the pool: the pool must not run dry between two reads."""
    decoded = item("a")
    decoded.decode_s = 0.001
    intake = Intake(Batcher(RowBudget(64), 0.0, BatchCost()))
    reader = ScriptedReader(intake, [[item(f"{number}")] for number in range(40)] + [[decoded]])
    switches: list[bool] = []

    def finish(finished: Finished) -> None:
        if reader.overlaps.is_set():
            reader.next_step()
        elif finished.items[0] is decoded:
            switches.append(True)

    run_inline(Toy(), intake, reader, Held(finish))
    assert switches == [True]
    assert reader.overlaps.is_set()


def test_a_batch_is_held_only_when_the_executor_reads_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)  # every batch is quick
    intake = Intake(Batcher(RowBudget(2), 0.0, BatchCost()))
    reader = ScriptedReader(intake, [[item("z")], [item("a")], [item("b"), item("c"), item("d")]])
    replies = Held()
    run_inline(Toy(), intake, reader, replies)
    batches = [[one.request.id for one in finished.items] for finished in replies.finished]
    # "z" was read by the reading thread; "d" waits behind "b"; and it comes without a read before it.
    assert list(zip(batches, replies.holds, strict=True)) == [
        (["z"], False),
        (["a"], True),
        (["b", "c"], False),
        (["d"], False),
    ]


class Bench:
    """A quick path whose queue is in memory, with the committer that it has in life."""

    def __init__(self) -> None:
        self.lane = InMemoryLane()
        self.stream = InMemoryStream(self.lane, SETTINGS, "one")
        self.stream.heartbeat(CARD, {})
        self.context = a_context(self.stream)
        self.model, self.intake, self.stop = Toy(), Intake(Batcher(RowBudget(8), 0.0, BatchCost())), threading.Event()
        self.committer = Committer(self.context, self.model, CARD, self.intake.is_empty)
        rows = Rows(self.model, 8, self.context.cancellations)
        decoding = cast(Decoding, None)  # nothing here is a picture
        self.fetcher = Fetcher(self.context, rows, self.intake, decoding, self.committer.refuse, lambda: None)
        self.source = BatchSource(self.context, self.intake, rows, self.committer.refuse)
        self.executor = InlineExecutor(
            self.context, self.model, BatchCost(), self.intake, self.fetcher, self.committer, self.stop
        )

    def step(self, *requests: str, body: bytes = b"x") -> None:
        """Let these requests come, and the executor read and run once."""
        for name in requests:
            self.lane.add({b"m": message(name, body)})
        self.executor.step(self.source, self.committer)

    def answered(self) -> list[str]:
        """Ids that have an answer."""
        return list(self.lane.replies)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)  # every batch is quick
    return Bench()


def test_what_is_held_is_committed_with_the_next_read(bench: Bench) -> None:
    bench.step("a")
    assert (bench.answered(), len(bench.context.leases)) == ([], 1)
    bench.step("b")
    assert (bench.answered(), len(bench.context.leases), bench.lane.commits) == (["a"], 1, 1)


def test_what_is_held_is_committed_although_the_queue_went_away_meanwhile(bench: Bench) -> None:
    bench.step("a")
    bench.lane.lost_answers = 1
    bench.step()
    assert (bench.answered(), len(bench.context.leases), bench.lane.commits) == (["a"], 0, 2)


def test_what_is_held_does_not_wait_while_the_model_is_paused(bench: Bench) -> None:
    bench.step("a")
    bench.context.pause.ask(True)
    bench.step("b")
    assert (bench.answered(), bench.context.pause.rests) == (["a"], True)
    assert bench.stream.depth()["default"].backlog == 1


def test_what_is_too_large_to_be_held_is_committed_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_executor, "MOST_BYTES", 10)
    bench.step("a")
    assert bench.answered() == ["a"]


def test_nothing_is_held_once_it_is_to_stop(bench: Bench) -> None:
    def stops(rows: Sequence[Any]) -> Sequence[Any]:
        bench.stop.set()
        return Toy.run(bench.model, rows)

    bench.model.run = stops  # type: ignore[method-assign]
    bench.step("a")
    assert bench.answered() == ["a"]


def test_what_is_held_at_the_end_is_committed(bench: Bench) -> None:
    bench.step("a")
    bench.intake.close()
    bench.executor.run(bench.source, bench.committer)
    assert bench.answered() == ["a"]


def test_it_does_not_read_while_something_waits_for_it(bench: Bench) -> None:
    bench.step("a")
    bench.lane.add({b"m": message("b")})
    bench.fetcher.accept(bench.stream.read(1))
    bench.step("c")
    assert bench.stream.depth()["default"].backlog == 1
    assert bench.answered() == ["a", "b"]


def test_it_does_not_read_while_the_fetchers_thread_does(bench: Bench) -> None:
    bench.lane.add({b"m": message("a")})
    with bench.fetcher.reading:
        assert not bench.executor._read(bench.fetcher, bench.executor._commit_and_read)
    assert bench.executor._read(bench.fetcher, bench.executor._commit_and_read)


def test_what_was_held_and_has_no_room_ends_with_an_error_too(bench: Bench) -> None:
    bench.lane.limit_bytes = 50_000
    bench.step("a", body=bytes(40_000))
    bench.step("b", body=bytes(41_000))
    bench.step()
    labels = {"model": "toy", "outcome": "lane_full"}
    assert bench.context.metrics.registry.get_sample_value("headrace_items_total", labels) == 1
    assert (bench.answered(), len(bench.context.leases)) == (["a"], 0)


def test_nobody_else_commits_and_reads_in_one_round_trip() -> None:
    """Who may talk on which connection at a time is said in one file."""
    callers = [path.name for path in (ROOT / "consumer").rglob("*.py") if ".commit_and_read(" in path.read_text()]
    assert callers == ["inline_executor.py"]

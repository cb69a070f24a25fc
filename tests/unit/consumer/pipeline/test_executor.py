"""The executor: a bad item never changes a batchmate's answer, and nothing dead is ever run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumer.batching.batcher import Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.load import Load, RowBudget
from consumer.pipeline import executor as module
from consumer.pipeline.executor import Executor
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Finished, Item, Refused, Replies
from consumer.pipeline.leases import Watchdog
from shared.wire.outcomes import EXPIRED, MODEL_ERROR
from tests.unit.consumer.parts import FAR_S, Collected, Toy, code_of, item


def run(*items: Item, max_rows: int = 8) -> tuple[Toy, list[Finished], list[Refused], Executor]:
    model, replies = Toy(), Collected()
    intake = Intake(Batcher(RowBudget(max_rows), 0.0, BatchCost()))
    intake.add(items)
    intake.close()
    executor = Executor(model, intake, replies)
    executor.run()
    return model, replies.finished, replies.refused, executor


def test_each_item_gets_its_share_of_the_outputs() -> None:
    _, (finished,), refused, _ = run(item("a", b"a"), item("b", b"rows:3", rows=3), item("c", b"c"))
    assert list(finished.outputs) == [[b"A"], [b"ROWS:3"] * 3, [b"C"]]
    assert [one.request.id for one in finished.items] == ["a", "b", "c"]
    assert (finished.rows, finished.reason) == (5, CloseReason.DRAIN)
    assert refused == []


def test_a_batch_runs_once() -> None:
    model, _, _, _ = run(*(item(str(number), b"x") for number in range(8)))
    assert [len(batch) for batch in model.batches] == [8]


def test_the_cost_is_learned_from_the_units_of_a_batch() -> None:
    seen: list[tuple[int, float]] = []

    class Noted(BatchCost):
        def observe(self, units: int, run_s: float) -> None:
            seen.append((units, run_s))

    long, short = item("a", b"rows:2", rows=2), item("b", b"b")
    long.load = Load(2, 900, 600)
    intake, replies = Intake(Batcher(RowBudget(8), 0.0, BatchCost())), Collected()
    intake.add([long, short])
    intake.close()
    Executor(Toy(), intake, replies, Noted()).run()
    assert [units for units, _ in seen] == [901]
    assert replies.finished[0].rows == 3


@pytest.mark.parametrize("bad", [b"crash", b"short"])
def test_only_the_culprit_fails(bad: bytes) -> None:
    _, (finished,), _, _ = run(item("a", b"a"), item("bad", bad), item("c", b"c"))
    assert [code_of(outcome) for outcome in finished.outputs] == [None, MODEL_ERROR.code, None]
    assert [finished.outputs[0], finished.outputs[2]] == [[b"A"], [b"C"]]


def test_batchmates_answers_are_the_same_bytes_with_and_without_the_culprit() -> None:
    good = [item(str(number), b"%d" % number) for number in range(5)]
    _, (alone,), _, _ = run(*good)
    _, (together,), _, _ = run(*good[:2], item("bad", b"crash"), *good[2:])
    assert [outcome for outcome in together.outputs if code_of(outcome) is None] == list(alone.outputs)


def test_the_culprit_is_found_by_halving() -> None:
    items = [item(str(number), b"crash" if number == 21 else b"x") for number in range(32)]
    model, (finished,), _, _ = run(*items, max_rows=32)
    assert [index for index, outcome in enumerate(finished.outputs) if code_of(outcome)] == [21]
    assert [len(batch) for batch in model.batches] == [32, 16, 16, 8, 4, 4, 2, 1, 1, 2, 8]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=40))
def test_whoever_fails_the_others_get_their_own_outputs(drawn: list[tuple[bool, int]]) -> None:
    items = [
        item(str(number), b"crash" if bad else b"x%d" % number, rows=rows) for number, (bad, rows) in enumerate(drawn)
    ]
    _, (finished,), _, _ = run(*items, max_rows=1000)
    for (bad, rows), one, outcome in zip(drawn, items, finished.outputs, strict=True):
        assert (code_of(outcome) == MODEL_ERROR.code) if bad else (outcome == [one.rows[0].upper()] * rows)


def test_every_item_may_fail() -> None:
    _, (finished,), _, _ = run(item("a", b"crash"), item("b", b"crash"))
    assert [code_of(outcome) for outcome in finished.outputs] == [MODEL_ERROR.code] * 2


def test_a_lone_culprit_is_not_run_twice() -> None:
    model, (finished,), _, _ = run(item("a", b"crash"))
    assert code_of(finished.outputs[0]) == MODEL_ERROR.code
    assert len(model.batches) == 1


def test_the_log_names_the_request_and_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    culprit = item("r-1", b"crash")
    culprit.request = replace(culprit.request, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    run(culprit)
    [line] = caplog.records
    assert (line.__dict__["request_id"], line.__dict__["trace_id"]) == ("r-1", "a" * 32)


def test_the_error_says_nothing_of_the_inside() -> None:
    _, (finished,), _, _ = run(item("a", b"crash"))
    assert "a bug in the model" not in str(finished.outputs[0])


def test_expired_items_are_refused_and_never_run() -> None:
    model, (finished,), refused, _ = run(item("dead", b"dead", deadline_s=0.0), item("a", b"a"))
    assert [(one.request_id, one.error.outcome, one.reply_to) for one in refused] == [("dead", EXPIRED, "me")]
    assert [one.request.id for one in finished.items] == ["a"]
    assert model.batches == [[b"a"]]


def test_a_batch_of_expired_items_runs_nothing() -> None:
    model, finished, refused, executor = run(item("dead", deadline_s=0.0))
    assert (finished, model.batches, len(refused)) == ([], [], 1)
    assert executor.busy_s == 0.0


def test_busy_time_is_the_sum_of_the_runs() -> None:
    _, finished, _, executor = run(*(item(str(number)) for number in range(20)), max_rows=8)
    assert [one.rows for one in finished] == [8, 8, 4]
    assert executor.busy_s == pytest.approx(sum(one.run_s for one in finished))


class ScriptedReader:
    """Reads what a test has prepared, and closes the intake at the end."""

    def __init__(self, intake: Intake, script: list[list[Item]]) -> None:
        self._intake, self._script = intake, script
        self.reads_by_executor = 0
        self.begun: list[str] = []
        self.withheld: set[str] = set()
        reader = self

        class Switch(threading.Event):
            def set(self) -> None:
                super().set()
                reader.next_step()  # the reader's own thread starts with a read

        self.overlaps: threading.Event = Switch()
        self.overlaps.set()

    def read_for_executor(self, stop: threading.Event, replies: Replies | None) -> bool:
        self.reads_by_executor += 1
        self.next_step()
        return True

    def begin_isolated(self, item: Item) -> bool:
        self.begun.append(item.request.id)
        return item.request.id not in self.withheld

    def next_step(self) -> None:
        if self._script:
            self._intake.add(self._script.pop(0))
        else:
            self._intake.close()


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

    executor = Executor(Timed(), intake, Collected(finish))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", lambda: clock[0])
        executor.run(reader)
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

    Executor(Toy(), intake, Collected(finish)).run(reader)
    assert switches == [True]
    assert reader.overlaps.is_set()


def test_a_batch_is_held_only_when_the_executor_reads_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)  # every batch is quick
    intake = Intake(Batcher(RowBudget(2), 0.0, BatchCost()))
    reader = ScriptedReader(intake, [[item("z")], [item("a")], [item("b"), item("c"), item("d")]])
    replies = Collected()
    Executor(Toy(), intake, replies).run(reader)
    batches = [[one.request.id for one in finished.items] for finished in replies.finished]
    # "z" was read by the reading thread; "d" waits behind "b"; and it comes without a read before it.
    assert list(zip(batches, replies.holds, strict=True)) == [
        (["z"], False),
        (["a"], True),
        (["b", "c"], False),
        (["d"], False),
    ]


def test_what_was_taken_over_runs_first_and_alone_once_it_has_been_counted() -> None:
    intake = Intake(Batcher(RowBudget(8), 0.0, BatchCost()))
    reader = ScriptedReader(intake, [])
    intake.add([item("a"), item("b")])
    intake.add_isolated(item("isolated"))
    replies = Collected()
    Executor(Toy(), intake, replies).run(reader)
    assert [[one.request.id for one in finished.items] for finished in replies.finished] == [["isolated"], ["a", "b"]]
    assert reader.begun == ["isolated"]


def test_what_is_not_to_begin_does_not_run() -> None:
    intake = Intake(Batcher(RowBudget(8), 0.0, BatchCost()))
    reader = ScriptedReader(intake, [])
    reader.withheld.add("isolated")
    intake.add_isolated(item("isolated", b"x"))
    model, replies = Toy(), Collected()
    Executor(model, intake, replies).run(reader)
    assert (reader.begun, model.batches, replies.finished) == (["isolated"], [], [])


def test_the_running_batch_is_progress_until_it_ends() -> None:
    watchdog = Watchdog()
    seen: list[float] = []

    class Watching(Toy):
        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            seen.append(watchdog.longest_s(FAR_S))
            return super().run(rows)

    intake = Intake(Batcher(RowBudget(8), 0.0, BatchCost()))
    intake.add([item("a", b"a"), item("bad", b"crash")])
    intake.close()
    Executor(Watching(), intake, Collected(), None, watchdog).run()
    assert len(seen) == 3
    assert min(seen) > 0
    assert watchdog.longest_s(FAR_S) == 0

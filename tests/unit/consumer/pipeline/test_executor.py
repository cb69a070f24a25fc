"""The executor: a bad item never changes a batchmate's answer, and nothing dead is ever run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumer.batching.batcher import CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.load import Load
from consumer.models.base import Description
from consumer.pipeline.executor import BatchExecutor
from consumer.pipeline.items import Item, Refused
from consumer.pipeline.leases import Watchdog
from shared.wire.outcomes import EXPIRED, MODEL_ERROR
from tests.unit.consumer.parts import FAR_S, Collected, Finished, Toy, a_context, code_of, execute, item


def run(*items: Item, max_rows: int = 8) -> tuple[Toy, list[Finished], list[Refused], BatchExecutor]:
    model, replies = Toy(), Collected()
    executor = execute(model, items, replies, a_context(), max_rows)
    return model, replies.finished, replies.refused, executor


def test_each_item_gets_its_share_of_the_outputs() -> None:
    _, (finished,), refused, _ = run(item("a", b"a"), item("b", b"rows:3", rows=3), item("c", b"c"))
    assert list(finished.outcomes) == [[b"A"], [b"ROWS:3"] * 3, [b"C"]]
    assert [one.request.id for one in finished.items] == ["a", "b", "c"]
    assert (finished.run.rows, finished.run.reason) == (5, CloseReason.DRAIN)
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
    replies = Collected()
    execute(Toy(), [long, short], replies, a_context(), make_cost=Noted)
    assert [units for units, _ in seen] == [901]
    assert replies.finished[0].run.rows == 3


@pytest.mark.parametrize("bad", [b"crash", b"short"])
def test_only_the_culprit_fails(bad: bytes) -> None:
    _, (finished,), _, _ = run(item("a", b"a"), item("bad", bad), item("c", b"c"))
    assert [code_of(outcome) for outcome in finished.outcomes] == [None, MODEL_ERROR.code, None]
    assert [finished.outcomes[0], finished.outcomes[2]] == [[b"A"], [b"C"]]


def test_batchmates_answers_are_the_same_bytes_with_and_without_the_culprit() -> None:
    good = [item(str(number), b"%d" % number) for number in range(5)]
    _, (alone,), _, _ = run(*good)
    _, (together,), _, _ = run(*good[:2], item("bad", b"crash"), *good[2:])
    assert [outcome for outcome in together.outcomes if code_of(outcome) is None] == list(alone.outcomes)


def test_the_culprit_is_found_by_halving() -> None:
    items = [item(str(number), b"crash" if number == 21 else b"x") for number in range(32)]
    model, (finished,), _, _ = run(*items, max_rows=32)
    assert [index for index, outcome in enumerate(finished.outcomes) if code_of(outcome)] == [21]
    assert [len(batch) for batch in model.batches] == [32, 16, 16, 8, 4, 4, 2, 1, 1, 2, 8]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=40))
def test_whoever_fails_the_others_get_their_own_outputs(drawn: list[tuple[bool, int]]) -> None:
    items = [
        item(str(number), b"crash" if bad else b"x%d" % number, rows=rows) for number, (bad, rows) in enumerate(drawn)
    ]
    _, (finished,), _, _ = run(*items, max_rows=1000)
    for (bad, rows), one, outcome in zip(drawn, items, finished.outcomes, strict=True):
        assert (code_of(outcome) == MODEL_ERROR.code) if bad else (outcome == [one.rows[0].upper()] * rows)


def test_every_item_may_fail() -> None:
    _, (finished,), _, _ = run(item("a", b"crash"), item("b", b"crash"))
    assert [code_of(outcome) for outcome in finished.outcomes] == [MODEL_ERROR.code] * 2


def test_a_lone_culprit_is_not_run_twice() -> None:
    model, (finished,), _, _ = run(item("a", b"crash"))
    assert code_of(finished.outcomes[0]) == MODEL_ERROR.code
    assert len(model.batches) == 1


def test_the_log_names_the_request_and_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    culprit = item("r-1", b"crash")
    culprit.request = replace(culprit.request, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    run(culprit)
    [line] = caplog.records
    assert (line.__dict__["request_id"], line.__dict__["trace_id"]) == ("r-1", "a" * 32)


def test_the_error_says_nothing_of_the_inside() -> None:
    _, (finished,), _, _ = run(item("a", b"crash"))
    assert "a bug in the model" not in str(finished.outcomes[0])


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
    assert [one.run.rows for one in finished] == [8, 8, 4]
    assert executor.busy_s == pytest.approx(sum(one.run.run_s for one in finished))


def test_the_running_batch_is_progress_until_it_ends() -> None:
    watchdog = Watchdog()
    seen: list[float] = []

    class Watching(Toy):
        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            seen.append(watchdog.longest_s(FAR_S))
            return super().run(rows)

    execute(Watching(), [item("a", b"a"), item("bad", b"crash")], Collected(), a_context(watchdog=watchdog))
    assert len(seen) == 3
    assert min(seen) > 0
    assert watchdog.longest_s(FAR_S) == 0


class Counted(Toy):
    """Bounds the units of its batches: a row has as many as bytes."""

    def describe(self) -> Description:
        return Description((), (), unit="token", most_units=3)

    def units(self, row: Any) -> int:
        return len(row)


@pytest.mark.parametrize("bad", [b"x", b"crash"])
def test_a_request_larger_than_a_batch_runs_alone_and_in_parts(bad: bytes) -> None:
    """So the watchdog sees that it gets on, however long all of it takes."""
    model, replies, long = Counted(), Collected(), item("a", b"rows:8", rows=8)
    long.rows, long.load = [b"abc", b"def", b"ghi", b"jkl", bad, b"m" * 20, b"n"], Load(7, 34, 20)
    execute(model, [long], replies, a_context())
    [finished] = replies.finished
    if bad == b"x":
        assert [len(batch) for batch in model.batches] == [4, 1, 1, 1]
        assert list(finished.outcomes) == [[row.upper() for row in long.rows]]
    else:
        assert code_of(finished.outcomes[0]) == MODEL_ERROR.code

"""The executor: a bad item never changes a batchmate's answer, and nothing dead is ever run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consumer.batcher import Batcher, CloseReason
from consumer.executor import Executor
from consumer.intake import Intake
from consumer.items import Finished, Item, Refused
from shared.outcomes import EXPIRED, MODEL_ERROR
from tests.unit.consumer.parts import Toy, code_of, item


def run(*items: Item, max_rows: int = 8) -> tuple[Toy, list[Finished], list[Refused], Executor]:
    model, finished, refused = Toy(), list[Finished](), list[Refused]()
    intake = Intake(Batcher(max_rows, 0.0), max_rows)
    intake.add(items)
    intake.close()

    def refuse(some: Sequence[Refused]) -> None:
        refused.extend(some)

    executor = Executor(model, intake, lambda batch, *, idle: finished.append(batch), refuse)
    executor.run()
    return model, finished, refused, executor


def test_each_item_gets_its_share_of_the_outputs() -> None:
    _, (finished,), refused, _ = run(item("a", b"a"), item("b", b"rows:3", rows=3), item("c", b"c"))
    assert list(finished.outputs) == [[b"A"], [b"ROWS:3"] * 3, [b"C"]]
    assert [one.request.id for one in finished.items] == ["a", "b", "c"]
    assert (finished.rows, finished.reason) == (5, CloseReason.DRAIN)
    assert refused == []


def test_a_batch_runs_once() -> None:
    model, _, _, _ = run(*(item(str(number), b"x") for number in range(8)))
    assert [len(batch) for batch in model.batches] == [8]


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


def test_every_item_may_fail() -> None:
    _, (finished,), _, _ = run(item("a", b"crash"), item("b", b"crash"))
    assert [code_of(outcome) for outcome in finished.outputs] == [MODEL_ERROR.code] * 2


def test_a_lone_culprit_is_not_run_twice() -> None:
    model, (finished,), _, _ = run(item("a", b"crash"))
    assert code_of(finished.outputs[0]) == MODEL_ERROR.code
    assert len(model.batches) == 1


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

"""The quick path beside ``batch`` lanes: the executor reads these for itself, and ordinary requests go first."""

from __future__ import annotations

import pytest

from consumer.batching.backlog import Backlog
from consumer.batching.cost import BatchCost
from consumer.batching.gaps import Gaps
from consumer.batching.load import RowBudget
from consumer.pipeline import executor as module
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.fetcher import Fetcher
from consumer.pipeline.inline_executor import InlineExecutor
from consumer.pipeline.items import Item
from consumer.pipeline.source import BatchSource
from tests.unit.consumer.parts import CARD, message
from tests.unit.consumer.pipeline.test_inline_executor import Bench


class Beside(Bench):
    """With a lane of kind ``batch``."""

    def __init__(self) -> None:
        super().__init__()
        self.bulk = self.lane.create("bulk", is_batch=True)
        self.stream.heartbeat(CARD, {})
        backlog = Backlog[Item](RowBudget(8))
        room = self.intake.make_later(backlog)
        self.intake.share(Gaps(self.intake._batcher, backlog, BatchCost()), room)
        rows = Rows(self.model, 8, self.context.cancellations)
        others = self.intake, self.fetcher._decoding, self.committer.refuse, lambda: None
        self.beside = Fetcher(self.context, rows, *others, None, room)
        self.source = BatchSource(self.context, self.intake, rows, self.committer.refuse)
        self.executor = InlineExecutor(
            self.context, self.model, BatchCost(), self.intake, self.fetcher, self.committer, self.stop, self.beside
        )

    def postpone(self, *requests: str) -> None:
        """Let these come into the batch lane."""
        for name in requests:
            self.bulk.add({b"m": message(name)})

    def done(self) -> list[str]:
        """Ids of the batch lane that have an answer."""
        return list(self.bulk.replies)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Beside:
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)  # every batch is quick
    return Beside()


def test_where_there_is_plenty_the_executor_reads_for_itself_and_commits_as_it_reads(beside: Beside) -> None:
    beside.postpone(*(f"b{number:02}" for number in range(24)))
    beside.beside.read_once(beside.stream.batch.read)
    beside.step()  # what the thread brought; its answers go to the committing thread
    beside.step()
    assert beside.stream.batch.read(1, wait=False)[0].added_ms  # it has read a batch of eight, and left seven
    assert (beside.executor._held is not None, beside.beside.overlaps.is_set()) == (True, False)
    beside.step()
    assert len(beside.done()) == 8
    beside.step()
    beside.step()
    assert len(beside.done()) == 15
    assert beside.beside.overlaps.is_set()  # nothing is left: the thread waits for more


def test_an_ordinary_request_that_came_meanwhile_is_next(beside: Beside) -> None:
    beside.postpone(*(f"b{number:02}" for number in range(24)))
    beside.beside.read_once(beside.stream.batch.read)
    beside.step()
    beside.lane.add({b"m": message("a")})
    beside.fetcher.read_once(beside.stream.read)
    beside.step()
    beside.committer.close()
    beside.committer.run()
    assert beside.answered() == ["a"]


def test_without_work_in_it_the_quick_path_is_as_before(beside: Beside) -> None:
    beside.step("a")
    beside.step("b")
    assert (beside.answered(), beside.lane.commits) == (["a"], 1)

"""The source: nothing is handed out that may not run, and what was taken over only once it has been counted."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item, Refused
from consumer.pipeline.source import BatchSource
from consumer.queue.interface import Entry
from shared.wire.outcomes import CANCELLED, EXPIRED
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.unit.consumer.parts import SETTINGS, Toy, a_context, item


class Counting(InMemoryStream):
    """Notes which entries began alone; says of some that they are not this worker's any more."""

    begun: list[bytes]
    withheld = False

    def begin_isolated(self, entry: Entry) -> bool:
        """See the interface."""
        self.begun.append(entry.entry_id)
        return not self.withheld


class Bench:
    """A source, and what it refused."""

    def __init__(self) -> None:
        self.stream = Counting(InMemoryLane(), SETTINGS, "one")
        self.stream.begun = []
        self.context = a_context(self.stream)
        self.intake, self.refused = Intake(Batcher(RowBudget(8), 0.0, BatchCost())), list[Refused]()
        rows = Rows(Toy(), 8, self.context.cancellations)
        self.source = BatchSource(self.context, self.intake, rows, self.refused.extend)

    def next(self) -> list[str] | None:
        """Ids of the next batch."""
        batch = self.source.next_batch(0.0)
        return None if batch is None else [one.request.id for one in batch.items]

    def ends(self) -> list[tuple[str, Any]]:
        """What was refused, and why."""
        return [(one.request_id, one.error.outcome) for one in self.refused]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_was_taken_over_comes_first_and_alone_once_it_has_been_counted(bench: Bench) -> None:
    isolated = item("isolated")
    bench.intake.add([item("a"), item("b")])
    bench.intake.add_isolated(isolated)
    assert [bench.next(), bench.next(), bench.next()] == [["isolated"], ["a", "b"], None]
    assert bench.stream.begun == [isolated.entry.entry_id]
    assert isolated.rows == [b"x"]


def test_no_other_is_taken_over_before_it_has_ended(bench: Bench) -> None:
    bench.intake.add_isolated(item("isolated"))
    batch = bench.source.next_batch(0.0)
    assert batch is not None
    assert bench.intake.has_isolated()  # it runs: begun now, another one would be counted as one that ended the process
    assert bench.intake.is_empty()
    bench.source.ended(batch)
    assert not bench.intake.has_isolated()


def test_what_is_not_to_begin_is_not_handed_out(bench: Bench) -> None:
    bench.stream.withheld = True
    bench.intake.add_isolated(item("isolated"))
    assert bench.next() is None
    assert (len(bench.stream.begun), bench.refused) == (1, [])
    assert not bench.intake.has_isolated()


def test_what_expires_while_it_is_counted_is_refused(bench: Bench) -> None:
    one = item("isolated", deadline_s=1e9)

    def begins(entry: Entry) -> bool:
        one.deadline_s = 0.0
        return True

    bench.stream.begin_isolated = begins  # type: ignore[method-assign]
    bench.intake.add_isolated(one)
    assert bench.next() is None
    assert bench.ends() == [("isolated", EXPIRED)]
    assert not bench.context.watchdog.is_under_way


def test_counting_one_that_was_taken_over_is_watched(bench: Bench) -> None:
    seen: list[bool] = []

    def begins(entry: Entry) -> bool:
        seen.append(bench.context.watchdog.is_under_way)
        return True

    bench.stream.begin_isolated = begins  # type: ignore[method-assign]
    bench.intake.add_isolated(item("isolated"))
    bench.next()
    assert (seen, bench.context.watchdog.is_under_way) == ([True], False)


@pytest.mark.parametrize(
    ("deadline_s", "cancels", "why"), [(0.0, True, EXPIRED), (1e9, True, CANCELLED), (1e9, False, None)]
)
def test_it_says_why_what_was_handed_out_is_not_to_go_on(
    bench: Bench, deadline_s: float, cancels: bool, why: object
) -> None:
    one: Item = item("a", deadline_s=deadline_s)
    if cancels:
        bench.context.cancellations.add([one.entry.claim], 0.0)
    error = bench.source.refusal(one, 1.0)
    assert (None if error is None else error.outcome) == why

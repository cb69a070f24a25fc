"""What was cancelled: heard of, looked at before anything runs, and forgotten in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.pipeline.cancellations import KEPT_S, MOST, CancellationListener, Cancellations
from consumer.pipeline.lease_renewer import LeaseRenewer
from consumer.pipeline.leases import LeaseBook
from shared.wire.outcomes import CANCELLED, EXPIRED, MODEL_ERROR
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.helpers import eventually
from tests.unit.consumer.parts import (
    CARD,
    SETTINGS,
    Collected,
    Toy,
    a_context,
    code_of,
    execute,
    item,
    joined,
    on_thread,
)


def test_nothing_is_cancelled_at_first() -> None:
    assert not Cancellations()
    assert not Cancellations().holds(("default", b"1-0"))


def test_entries_of_two_lanes_may_have_the_same_id() -> None:
    cancellations = Cancellations()
    cancellations.add([("gold", b"1-0")], 0.0)
    assert cancellations
    assert (cancellations.holds(("gold", b"1-0")), cancellations.holds(("default", b"1-0"))) == (True, False)


def test_what_one_lane_tells_does_not_push_out_what_another_told() -> None:
    cancellations = Cancellations()
    cancellations.add([("gold", b"1-0")], 0.0)
    cancellations.add([("shop", b"%d-0" % number) for number in range(3 * MOST)], 1.0)
    assert cancellations.holds(("gold", b"1-0"))
    assert len(cancellations) == MOST + 1


def test_what_is_told_again_is_not_lost_and_forgotten_with_the_first() -> None:
    cancellations = Cancellations()
    for now_s in (0.0, KEPT_S - 1.0):
        cancellations.add([("gold", b"1-0")], now_s)
        assert cancellations.holds(("gold", b"1-0"))
    cancellations.add([], KEPT_S + 1.0)
    assert not cancellations


@settings(max_examples=8)  # an example tells of some ten thousand entries
@given(
    st.lists(
        st.tuples(st.sampled_from(["default", "gold"]), st.integers(0, MOST * 2), st.floats(0.0, 3 * KEPT_S)),
        max_size=8,
    )
)
def test_it_is_bounded_and_forgets_what_nobody_can_come_to_any_more(news: list[tuple[str, int, float]]) -> None:
    cancellations, now_s, number = Cancellations(), 0.0, 0
    for lane, count, pause_s in news:
        now_s += pause_s
        claims = [(lane, b"%d-0" % (number + one)) for one in range(count)]
        number += count
        cancellations.add(claims, now_s)
        assert len(cancellations) <= 2 * MOST
        assert all(cancellations.holds(claim) for claim in claims[-MOST:])
    cancellations.add([], now_s + KEPT_S + 1.0)
    assert not cancellations
    assert len(cancellations) == 0


def test_it_listens_while_the_queue_goes_away_and_comes_back() -> None:
    lane = InMemoryLane()
    stream = InMemoryStream(lane, SETTINGS, "one")
    stream.heartbeat(CARD, {})
    cancellations, stop = Cancellations(), threading.Event()
    lane.down = True
    running = on_thread("listen", lambda: CancellationListener(stream, cancellations).run(stop))
    lane.cancel(b"1-0")
    lane.down = False
    eventually(lambda: cancellations.holds(("default", b"1-0")))
    stop.set()
    assert joined(running)


def test_what_was_cancelled_while_it_waited_is_left_out_of_its_batch() -> None:
    cancellations, model = Cancellations(), Toy()
    items = [item("a", b"a"), item("gone", b"gone"), item("c", b"c")]
    cancellations.add([items[1].entry.claim], 0.0)
    replies = Collected()
    execute(model, items, replies, a_context(cancellations=cancellations))
    assert model.batches == [[b"a", b"c"]]
    assert [(one.request_id, one.error.outcome, one.reply_to) for one in replies.refused] == [("gone", CANCELLED, "me")]
    (finished,) = replies.finished
    assert [one.request.id for one in finished.items] == ["a", "c"]


def test_a_batch_that_was_cancelled_as_a_whole_runs_nothing() -> None:
    cancellations, model = Cancellations(), Toy()
    items = [item("a"), item("b")]
    cancellations.add([one.entry.claim for one in items], 0.0)
    replies = Collected()
    executor = execute(model, items, replies, a_context(cancellations=cancellations))
    assert (model.batches, replies.finished, len(replies.refused), executor.busy_s) == ([], [], 2, 0.0)


class Meanwhile(Toy):
    """Something happens while the first batch, which fails, runs."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens = happens

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """See the class."""
        if not self.batches:
            self._happens()
        return super().run(rows)


def test_each_half_of_a_failed_batch_is_looked_at_anew() -> None:
    cancellations = Cancellations()
    items = [item("a", b"a"), item("gone", b"gone"), item("crash", b"crash"), item("late", b"late"), item("e", b"e")]

    def happens() -> None:
        cancellations.add([items[1].entry.claim], 0.0)
        items[3].deadline_s = 0.0

    model = Meanwhile(happens)
    replies = Collected()
    execute(model, items, replies, a_context(cancellations=cancellations))
    (finished,) = replies.finished
    assert [code_of(one) for one in finished.outcomes] == [None, CANCELLED.code, MODEL_ERROR.code, EXPIRED.code, None]
    assert finished.outcomes[0] == [b"A"]
    assert finished.outcomes[4] == [b"E"]
    assert [row for batch in model.batches[1:] for row in batch if row in (b"gone", b"late")] == []


def test_its_lease_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    """That it was taken away is no news to somebody who knows why."""
    lane = InMemoryLane()
    stream = InMemoryStream(lane, SETTINGS, "one")
    stream.heartbeat(CARD, {})
    entry_id = lane.add({b"m": b"x"})
    assert entry_id is not None
    (entry,) = stream.read(1)
    leases, cancellations = LeaseBook(), Cancellations()
    leases.take(entry.claim)
    lane.cancel(entry_id)
    cancellations.add(stream.terminations(), 0.0)
    assert stream.renew([entry.claim]) == [entry.claim]
    for known, warnings in ((cancellations, 0), (Cancellations(), 1)):
        LeaseRenewer(a_context(stream, leases=leases, cancellations=known))._renew(0.0)
        assert len(caplog.records) == warnings

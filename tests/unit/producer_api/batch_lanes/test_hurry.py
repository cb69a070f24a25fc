"""Deadlines of batches that are driven: clocks that jump, and batches that share a lane."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgpack
import pytest

from producer_api.bulk.deadlines.hurry import Deadline, UrgentBatches
from producer_api.bulk.record import Record
from producer_api.bulk.registry import Claim
from producer_api.load.wait_estimate import Service
from producer_api.parsing.bulk_schemas import State
from producer_api.queue.admission import check_gaps
from shared.redis.client import RedisError
from shared.wire.messages import decode_request
from shared.wire.outcomes import RequestError
from shared.wire.urgent import urgent

NOW_MS = 1_700_000_000_000


class Clock:
    """A registry that says what time it is, and notes for which lanes there is a hurry."""

    def __init__(self, fails: bool = False) -> None:
        self.hurried: list[tuple[str, str, int]] = []
        self._fails = fails

    async def now_ms(self) -> float:
        """Redis's time."""
        return NOW_MS

    async def hurry(self, model: str, lane: str, for_ms: int) -> None:
        """Note it."""
        if self._fails:
            raise RedisError("away")
        self.hurried.append((model, lane, for_ms))


def started(window_ms: int, batches: UrgentBatches, batch_id: str = "b-1", clock: Any = None) -> Deadline:
    record = Record(
        id=batch_id, model="m", lane="nightly", state=State.RUNNING, window_ms=window_ms, receiving_ms=NOW_MS - 1000
    )
    registry: Any = clock or Clock()
    made = Deadline(registry, Claim("m", "nightly", batch_id, "1"), record, batches)
    asyncio.run(made.start(0))
    return made


def test_a_clock_that_is_set_moves_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline, now_s = started(61_000, UrgentBatches()), time.perf_counter()
    monkeypatch.setattr(time, "time", lambda: NOW_MS / 1000 + 1e7)  # this machine's is months ahead
    assert not deadline.is_over(now_s + 58)
    assert deadline.is_over(now_s + 61)
    assert not deadline.look(now_s - 1e6, 0, 10, None, is_batch_lane=True)  # one that went back


def test_an_urgent_batch_goes_before_the_others_of_its_lane() -> None:
    batches = UrgentBatches()
    soon, later = started(2_000, batches, "b-soon"), started(0, batches, "b-later")
    service, now_s = Service(wave=4, batch_s=0.1), time.perf_counter()
    for at_s in (0.3, 0.7):
        soon.look(now_s + at_s, 0, 1000, service, is_batch_lane=True)
        later.look(now_s + at_s, 0, 1000, service, is_batch_lane=True)
    assert (soon.is_urgent, soon.waits()) == (True, False)
    assert (later.is_urgent, later.waits()) == (False, True)
    assert (soon.field, later.field) == ({"urgent": 1}, {"urgent": 0})
    soon.end()
    assert not later.waits()


def test_in_an_ordinary_lane_nothing_is_urgent() -> None:
    deadline, now_s = started(1_500, UrgentBatches()), time.perf_counter()
    for at_s in (0.3, 0.7):
        deadline.look(now_s + at_s, 0, 1000, None, is_batch_lane=False)
    assert (deadline.is_urgent, deadline.field, deadline.waits()) == (False, {}, False)


@pytest.mark.parametrize("fails", [False, True])
def test_the_consumers_are_told_while_it_is_urgent(fails: bool) -> None:
    clock = Clock(fails)
    deadline, now_s = started(1_500, UrgentBatches(), clock=clock), time.perf_counter()
    asyncio.run(deadline.tell())
    assert clock.hurried == []
    for at_s in (0.3, 0.7):
        deadline.look(now_s + at_s, 0, 1000, None, is_batch_lane=True)
    asyncio.run(deadline.tell())  # without Redis it is told with the next save
    assert [place[:2] for place in clock.hurried] == ([] if fails else [("m", "nightly")])


def test_a_request_is_marked_as_it_is() -> None:
    whole = {"v": 1, "id": "a", "ttl_ms": 9, "ct": "x/y", "body": b"\x00" * 50, "rt": "b-1", "params": {"top_k": 3}}
    plain = msgpack.packb(whole)
    assert decode_request(urgent(plain)) == decode_request(msgpack.packb({**whole, "urgent": True}))
    assert urgent(urgent(plain)) == urgent(plain)
    for other in (b"", b"\x80", b"\xc0", b"\x8f" + b"\xa1a\xc0" * 15, b"\xde\x00\x01\xa1a\xc0"):
        assert urgent(other) == other


def test_a_request_of_a_batch_lane_is_refused_only_if_it_surely_comes_too_late() -> None:
    service = Service(wave=10, batch_s=0.1)  # a hundred a second
    check_gaps(service, 1000, 10.0)
    with pytest.raises(RequestError, match=r"the 1500 requests ahead .* longer than the 10 s") as refused:
        check_gaps(service, 1500, 10.0)
    assert (refused.value.outcome.code, refused.value.retry_after_s) == ("wait_too_long", 5)

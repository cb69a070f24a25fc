"""The intake: threads meet here, so each test waits for an event and never for a time."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batch, Batcher, CloseReason
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.pipeline import intake as module
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item
from tests.unit.consumer.parts import item, joined, on_thread

LONG_S = 3600.0


def intake(max_rows: int = 4, window_s: float = 0.0) -> Intake:
    return Intake(Batcher(RowBudget(max_rows), window_s, BatchCost()))


def ids(batch: Batch[Item] | None) -> list[str]:
    assert batch is not None
    return [one.request.id for one in batch.items]


def test_an_empty_intake_has_room_for_one_batch() -> None:
    assert intake(4).wait_for_room(0.0) == 4


def test_what_waits_takes_room() -> None:
    meeting = intake(4, LONG_S)
    meeting.add([item("a"), item("b", rows=2)])
    assert meeting.wait_for_room(0.0) == 1
    meeting.add([item("c")])
    assert meeting.wait_for_room(0.0) == 0


def test_what_is_being_decoded_takes_room() -> None:
    meeting = intake(4)
    meeting.begin_decoding(3)
    assert meeting.wait_for_room(0.0) == 1
    meeting.end_decoding(None)
    assert meeting.wait_for_room(0.0) == 2


def test_taking_a_batch_wakes_whoever_waits_for_room() -> None:
    meeting = intake(1)
    meeting.add([item("a")])
    rooms: queue.Queue[int] = queue.Queue()
    waiting = on_thread("reader", lambda: rooms.put(meeting.wait_for_room(LONG_S)))
    assert ids(meeting.next_batch()) == ["a"]
    assert rooms.get(timeout=10) == 1
    assert joined(waiting)


def test_giving_up_a_decoding_wakes_whoever_waits_for_room() -> None:
    meeting = intake(1)
    meeting.begin_decoding(1)
    rooms: queue.Queue[int] = queue.Queue()
    waiting = on_thread("reader", lambda: rooms.put(meeting.wait_for_room(LONG_S)))
    meeting.end_decoding(None)
    assert rooms.get(timeout=10) == 1
    assert joined(waiting)


def test_the_running_thread_wakes_for_an_item() -> None:
    meeting = intake()
    batches: queue.Queue[Batch[Item] | None] = queue.Queue()
    running = on_thread("executor", lambda: batches.put(meeting.next_batch()))
    meeting.add([item("a")])
    assert ids(batches.get(timeout=10)) == ["a"]
    assert joined(running)


def test_a_decoded_item_wakes_the_running_thread() -> None:
    meeting = intake()
    meeting.begin_decoding(1)
    batches: queue.Queue[Batch[Item] | None] = queue.Queue()
    running = on_thread("executor", lambda: batches.put(meeting.next_batch()))
    meeting.end_decoding(item("a"))
    assert ids(batches.get(timeout=10)) == ["a"]
    assert joined(running)


def test_a_batch_that_fills_while_its_window_is_open_leaves_at_once() -> None:
    meeting = intake(2, LONG_S)
    meeting.add([item("a")])
    batches: queue.Queue[Batch[Item] | None] = queue.Queue()
    running = on_thread("executor", lambda: batches.put(meeting.next_batch()))
    meeting.add([item("b")])
    batch = batches.get(timeout=10)
    assert ids(batch) == ["a", "b"]
    assert batch is not None
    assert batch.reason is CloseReason.FULL
    assert joined(running)


def test_a_lone_item_leaves_when_its_window_ends() -> None:
    meeting = intake(2, 0.01)
    meeting.add([item("a")])
    batch = meeting.next_batch()
    assert ids(batch) == ["a"]
    assert batch is not None
    assert batch.reason is CloseReason.WINDOW
    assert batch.items[0].arrived_s + 0.01 <= time.monotonic()


def test_closing_hands_out_what_is_here_and_then_reports_the_end() -> None:
    meeting = intake(4, LONG_S)
    meeting.add([item("a")])
    meeting.close()
    assert ids(meeting.next_batch()) == ["a"]
    assert meeting.next_batch() is None
    assert meeting.next_batch() is None


def test_closing_wakes_the_running_thread() -> None:
    meeting = intake()
    batches: queue.Queue[Batch[Item] | None] = queue.Queue()
    running = on_thread("executor", lambda: batches.put(meeting.next_batch()))
    meeting.close()
    assert batches.get(timeout=10) is None
    assert joined(running)


def test_a_closed_intake_still_waits_for_its_decoders() -> None:
    meeting = intake(4, LONG_S)
    meeting.begin_decoding(1)
    meeting.close()
    batches: queue.Queue[Batch[Item] | None] = queue.Queue()

    def run() -> None:
        while (batch := meeting.next_batch()) is not None:
            batches.put(batch)
        batches.put(None)

    running = on_thread("executor", run)
    meeting.end_decoding(item("late"))
    assert ids(batches.get(timeout=10)) == ["late"]
    assert batches.get(timeout=10) is None
    assert joined(running)


def test_nothing_is_lost_between_many_writers_and_one_reader() -> None:
    meeting = intake(8, 0.0005)
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        start.wait(10)
        for number in range(200):
            while not meeting.wait_for_room(1.0):
                pass
            meeting.begin_decoding(1)
            meeting.end_decoding(item(f"{writer}-{number}"))

    writers = [on_thread(f"writer-{number}", lambda number=number: write(number)) for number in range(4)]  # type: ignore[misc]
    seen: list[str] = []
    while len(seen) < 800:
        batch = meeting.next_batch()
        assert batch is not None
        assert sum(one.load.rows for one in batch.items) <= 8
        seen += ids(batch)
    assert all(joined(writer) for writer in writers)
    assert len(set(seen)) == 800
    for writer in range(4):
        assert [name for name in seen if name.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(200)]


def test_room_counts_the_rows_that_requests_usually_have() -> None:
    meeting = intake(32)
    for _ in range(40):
        meeting.add([item("a", rows=16)])
        assert meeting.next_batch() is not None
    assert meeting.wait_for_room(0.0) == 2
    meeting.begin_decoding(1)
    assert meeting.wait_for_room(0.0) == 1


class VirtualTime:
    """Stands in for ``time`` and ``threading`` in the intake: waiting moves the clock to the next arrival or end."""

    def __init__(self, arrivals: list[tuple[float, Item]]) -> None:
        self.now_s = 0.0
        self.meeting: Intake | None = None
        self._arrivals = arrivals

    def monotonic(self) -> float:
        return self.now_s

    def Lock(self) -> None:
        return None

    def Condition(self, lock: None) -> VirtualTime:
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def notify(self) -> None:
        return None

    def wait(self, timeout_s: float | None) -> bool:
        assert self.meeting is not None
        until_s = float("inf") if timeout_s is None else self.now_s + timeout_s
        if self._arrivals and self._arrivals[0][0] <= until_s:
            self.now_s, first = self._arrivals.pop(0)
            self.meeting.add([first])
            return True
        self.now_s = max(self.now_s, min(until_s, 1e9))
        return False


def test_the_real_intake_waits_for_returning_clients_on_a_virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clients, each back half a millisecond after its answer; a run takes 8 ms. They come together."""
    cost = BatchCost((rows, 0.0001 * rows + 0.008) for rows in (1, 2, 4, 8))
    arrivals = [(0.001 * number, item(f"{number}", arrived_s=0.0)) for number in range(4)]
    clock = VirtualTime(arrivals)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "threading", clock)
    clock.meeting = Intake(Batcher(RowBudget(8), 0.005, cost, Adaptive(cost, 0.005)))
    sizes = []
    for number in range(40):
        batch = clock.meeting.next_batch(1.0)
        assert batch is not None
        sizes.append(len(batch.items))
        end_s = clock.now_s + cost.run_s(len(batch.items))
        while arrivals and arrivals[0][0] <= end_s:  # what the reading thread does meanwhile
            clock.now_s, one = arrivals.pop(0)
            clock.meeting.add([one])
        clock.now_s = end_s
        back_s = [end_s + 0.0004 + 0.0001 * place for place in range(len(batch.items))]
        arrivals += [(at_s, item(f"{number}-{place}", arrived_s=at_s)) for place, at_s in enumerate(back_s)]
        arrivals.sort(key=lambda pair: pair[0])
    assert sizes[0] == 1
    assert sizes[-10:] == [4] * 10


def test_who_goes_ahead_rides_in_the_next_batch_and_nobody_is_lost() -> None:
    meeting = intake(4)
    meeting.add([item(f"flood-{number}") for number in range(4)])
    late = [item("late-1"), item("late-2")]
    for one in late:
        one.has_priority = True
    meeting.add(late)
    meeting.add([item("last")])
    first, second = meeting.next_batch(0.0), meeting.next_batch(0.0)
    assert first is not None
    assert second is not None
    assert [one.request.id for one in first.items] == ["late-1", "late-2", "flood-0", "flood-1"]
    meeting.close()
    rest = [one.request.id for one in second.items]
    assert rest == ["flood-2", "flood-3", "last"]


def test_the_lanes_that_have_something_here() -> None:
    meeting = intake(4)
    assert meeting.lanes() == {}
    meeting.add([item("a")])
    meeting.begin_decoding(1, "gold")
    assert meeting.lanes() == {"default": 1, "gold": 1}
    meeting.end_decoding(None, "gold")
    meeting.next_batch(0.0)
    assert meeting.lanes() == {}

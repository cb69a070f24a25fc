"""Many deadlines, few timers; on a loop whose clock the test turns."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from producer_api.queue.timer_wheel import STEP_S, TimerWheel


class VirtualLoop:
    """Only timers, and a clock that jumps from one to the next."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, int, Callable[[int], None]]] = []

    def call_at(self, when: float, callback: Callable[[int], None], slot: int) -> None:
        heapq.heappush(self.timers, (when, slot, callback))

    def run(self) -> None:
        while self.timers:
            self.now_s, slot, callback = heapq.heappop(self.timers)
            callback(slot)


class Wait:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ended_s: float | None = None

    def time_out(self) -> None:
        assert self.ended_s is None
        self.ended_s = self._loop.now_s


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=50))
def test_every_deadline_fires_once_never_early_and_hardly_late(plans: list[tuple[float, bool]]) -> None:
    loop = VirtualLoop()
    wheel = TimerWheel(loop)
    waits = [(Wait(loop), at_s, removed) for at_s, removed in plans]
    slots = [wheel.add(wait, at_s) for wait, at_s, _ in waits]
    for (wait, _, removed), slot in zip(waits, slots, strict=True):
        if removed:
            wheel.remove(wait, slot)
    loop.run()
    for (wait, at_s, removed), slot in zip(waits, slots, strict=True):
        if removed:
            assert wait.ended_s is None
        else:
            assert wait.ended_s is not None
            assert -1e-9 <= wait.ended_s - at_s <= STEP_S + 1e-9
        wheel.remove(wait, slot)  # harmless afterwards


def test_deadlines_close_to_each_other_share_a_timer() -> None:
    loop = VirtualLoop()
    wheel = TimerWheel(loop)
    for index in range(1000):
        wheel.add(Wait(loop), 1.0 + index * 1e-6)
    assert len(loop.timers) <= 2

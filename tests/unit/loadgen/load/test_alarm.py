"""The alarm rings at or after its time, once for each time it is set, and can be set again while it rings."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest
import uvloop

from loadgen.load.alarm import Alarm


@pytest.mark.parametrize("platform", ["as it is", "without timers that are files"])
def test_it_rings_in_order_and_never_early(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform != "as it is":
        monkeypatch.setattr("loadgen.load.alarm.sys.platform", "other")

    async def scene() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        start_s = perf_counter()
        due_s = [start_s - 1.0, *(start_s + 0.001 * number for number in range(50))]  # the first has passed already
        rung: list[tuple[float, float]] = []

        def ring() -> None:
            rung.append((due_s[len(rung)], perf_counter()))
            if len(rung) == len(due_s):
                over.set_result(None)
            else:
                clock.set(due_s[len(rung)])

        clock = Alarm(loop, ring)
        clock.set(due_s[0])
        await over
        clock.close()
        clock.close()
        await asyncio.sleep(0)
        return rung

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rung = runner.run(scene())
    assert len(rung) == 51
    # The loop's own timer counts in whole milliseconds and may be early by less than one.
    assert all(at_s >= due_s - 0.001 for due_s, at_s in rung)

"""An engine that dies takes its consumer with it: nothing is answered for it, and another consumer goes on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consumer.generation.engine import EngineDied
from shared.wire.generation import Generation
from tests.helpers import eventually
from tests.unit.consumer.generating.test_steps import Bench


def test_what_ran_in_an_engine_that_died_goes_on_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    bench = Bench()
    for name in "ab":
        bench.ask(name, Generation(prompt="abcdef", max_tokens=20, temperature=0, stream=True))
    bench.gate.let(6)
    eventually(lambda: min(bench.tokens("a"), bench.tokens("b")) >= 5)

    def dies() -> None:
        raise EngineDied("the device is gone")

    monkeypatch.setattr(bench.engine, "step", dies)
    bench.gate.let(1)
    bench.thread.join(20.0)
    assert not bench.thread.is_alive()
    assert [crash.exc_type for crash in crashes] == [EngineDied]
    assert bench.lane.reply("a") is bench.lane.reply("b") is None
    bench.pipeline.stop()
    before = bench.lane.now_ms
    bench.lane.now_ms = lambda: before() + 1e6  # its leases are over
    other = Bench(lane=bench.lane, name="two")
    try:
        other.gate.open()
        for name in "ab":
            generated = other.reply(name).generated
            assert generated is not None
            assert generated.choices[0].text == ("abcdef" * 4)[:20]
    finally:
        other.close()

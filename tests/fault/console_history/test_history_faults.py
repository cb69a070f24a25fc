"""The history while Redis is away, and while its clock jumps by an hour."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import find_server, server_argv
from shared.wire.outcomes import RequestError
from tests.contract.console_history.recorders import front_ends, history, model_of, seen, serve, written
from tests.embedded import EmbeddedServer
from tests.fault.redis import servers
from tests.fault.redis.servers import server_in
from tests.fault.redis.test_clock import FOUND, HOUR_S, Clock
from tests.needs import is_missing

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]


def test_redis_away_is_503_and_what_was_counted_meanwhile_is_written_later(tmp_path: Path, model_name: str) -> None:
    with server_in(tmp_path) as own_server:
        found = asyncio.run(before_and_after(own_server, model_name))
    assert seen(found["errors"])


async def before_and_after(own_server: EmbeddedServer, model_name: str) -> Any:
    """An outage between two ticks."""
    serve(own_server.url, model_name)
    async with front_ends(own_server.url, 1, model_of(model_name)) as (one,):
        await one.recorder.tick()
        own_server.kill()
        one.fails(model_name, 30)
        await one.recorder.tick()
        with pytest.raises(RequestError) as refused:
            await history(one, model_name)
        assert refused.value.outcome.code == "queue_unavailable"
        own_server.start()
        serve(own_server.url, model_name)
        await one.recorder.tick()
        return await history(one, model_name)


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S], ids=["back", "forward"])
def test_a_clock_that_jumps_and_is_set_right_again(tmp_path: Path, model_name: str, seconds: int) -> None:
    if not FOUND:
        is_missing("libfaketime is not installed (Debian and Ubuntu: apt install faketime).")
    clock = Clock(tmp_path)
    argv = server_argv(find_server(), clock.config)
    with servers.process(argv, clock.config.port, tmp_path / "server.log", clock.environment):
        serve(clock.url, model_name)
        asyncio.run(jumps(clock, model_name, seconds))


async def jumps(clock: Clock, model_name: str, seconds: int) -> None:
    """Two front ends write before, during and after; each answers questions all the time."""
    async with front_ends(clock.url, 2, model_of(model_name)) as both:

        async def tick() -> list[Any]:
            for front_end in both:
                front_end.answers(model_name, 40)
                await front_end.recorder.tick()
            return [await history(front_end, model_name, minutes=120, points=2000) for front_end in both]

        first = await tick()
        assert all(seen(one["rate"]) for one in first)
        clock.jump(seconds)
        jumped = await tick()
        for one in jumped:
            assert len(one["at_s"]) == 720
            # Of what was before, back in time nothing is left, since it lies in the future; forward all is.
            assert len(seen(one["p50_ms"])) == (1 if seconds < 0 else 2)
        rows = len(written(clock.url, model_name))
        clock.jump(0)
        right = await tick()
        for one in right:
            assert len(seen(one["p50_ms"])) >= 1
            assert seen(one["p50_ms"])[-1] == pytest.approx(4, rel=0.3)
        with connect(clock.url) as client:
            assert client.xlen(keys.history(model_name)) > rows >= 4
            assert client.pttl(keys.history(model_name)) > 3 * HOUR_S * 1000

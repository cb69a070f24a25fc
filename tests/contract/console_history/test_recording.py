"""The ring on real servers: who writes what, how long it stays, and what comes out of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.redis import acl
from producer_api.console.feed.looking import Looker
from producer_api.console.history.pace import FEWEST_ENTRIES
from producer_api.console.history.recorder import KEEP_MS
from producer_api.queue.interface import Catalogue
from shared import keys
from shared.redis.client import Link, connect, connect_async
from shared.redis.embedded import ServerConfig, free_port
from shared.state.lanes import LaneBytes
from tests.contract.console_history.recorders import front_ends, history, model_of, seen, serve, written
from tests.embedded import EmbeddedServer


def test_front_ends_add_up_and_one_of_them_adds_what_belongs_to_none(redis_url: str, model_name: str) -> None:
    serve(redis_url, model_name, busy="0.5", batch="4.0")
    with connect(redis_url) as client:
        client.xadd(keys.work(model_name, "default"), {"m": b"one"})

    async def run() -> Any:
        async with front_ends(redis_url, 3, model_of(model_name)) as (one, two, three):
            one.answers(model_name, 100)
            two.answers(model_name, 50, wait_s=0.4)
            two.fails(model_name, 50)
            for front_end in (one, two, three):
                await front_end.recorder.tick()
            return await history(one, model_name), await history(two, model_name, "default")

    whole, lane = asyncio.run(run())
    rows = written(redis_url, model_name)
    assert sum(row.gauges is not None for row in rows) == 1
    assert {row.who for row in rows if row.lanes} == {row.who for row in rows}
    assert whole["step_s"] == 10
    assert len(whole["at_s"]) in (6, 7)
    assert seen(whole["rate"]) == seen(lane["rate"])
    assert seen(whole["errors"])
    assert seen(whole["goodput"]) == [0.75]
    [p50_ms], [p99_ms] = seen(whole["p50_ms"]), seen(whole["p99_ms"])
    assert 3 < p50_ms < 6
    assert 300 < p99_ms < 500
    assert seen(whole["depth"]) == [1]
    assert (seen(whole["busy"]), seen(whole["batch"])) == ([0.5], [4.0])
    with connect(redis_url) as client:
        assert 0 < client.pttl(keys.history(model_name)) <= KEEP_MS
        assert 0 < client.pttl(keys.history_turn(model_name)) <= 25_000


def test_an_idle_model_is_written_of_once(valkey_url: str, model_name: str) -> None:
    serve(valkey_url, model_name, busy="0.000")

    async def run() -> None:
        async with front_ends(valkey_url, 2, model_of(model_name)) as both:
            for _ in range(4):
                for front_end in both:
                    await front_end.recorder.tick()

    asyncio.run(run())
    [row] = written(valkey_url, model_name)
    assert row.gauges is not None
    assert row.gauges.workers == 1
    assert row.lanes == {}


def test_the_turn_goes_on_when_its_holder_is_gone(valkey_url: str, model_name: str) -> None:
    serve(valkey_url, model_name)

    async def run() -> None:
        async with front_ends(valkey_url, 2, model_of(model_name)) as (one, two):
            await one.recorder.tick()
            await two.recorder.tick()
            with connect(valkey_url) as client:
                assert client.get(keys.history_turn(model_name)) == one.recorder.who.encode()
                client.delete(keys.history_turn(model_name))  # as when it has expired
            await two.recorder.tick()

    asyncio.run(run())
    assert len([row for row in written(valkey_url, model_name) if row.gauges is not None]) == 2


def test_direct_producers_are_seen_in_the_rate(valkey_url: str, model_name: str) -> None:
    """Nobody but the lane knows of their requests: those that were added and are no more there have ended."""
    serve(valkey_url, model_name)

    async def run() -> Any:
        async with front_ends(valkey_url, 1, model_of(model_name)) as (one,):
            await one.recorder.tick()
            with connect(valkey_url) as client:
                work = keys.work(model_name, "default")
                entries = [client.xadd(work, {"m": b"direct"}) for _ in range(60)]
                client.xdel(work, *entries[:50])
            one.answers(model_name, 10)
            await one.recorder.tick()
            return await history(one, model_name)

    found = asyncio.run(run())
    assert seen(found["depth"])[-1] == 10
    assert seen(found["rate"])[-1] > 4  # ten answers over the time between two ticks are far more than that


def test_large_messages_are_not_read_for_their_count(valkey_url: str, model_name: str) -> None:
    serve(valkey_url, model_name)
    state = model_of(model_name)
    large = replace(state, lengths={"default": 1}, bytes={"default": LaneBytes(1 << 24)})

    async def run() -> None:
        async with front_ends(valkey_url, 1, large) as (one,):
            await one.recorder.tick()

    asyncio.run(run())
    [row] = written(valkey_url, model_name)
    assert row.gauges is not None
    assert row.gauges.lanes["default"].done is None


def test_the_ring_has_an_end(valkey_url: str, model_name: str) -> None:
    async def run() -> None:
        async with front_ends(valkey_url, 1, model_of(model_name), limit_bytes=1) as (one,):
            for _ in range(3 * FEWEST_ENTRIES):
                one.answers(model_name, 1)
                await one.recorder.tick()

    serve(valkey_url, model_name)
    asyncio.run(run())
    with connect(valkey_url) as client:
        assert FEWEST_ENTRIES <= client.xlen(keys.history(model_name)) <= FEWEST_ENTRIES + 100


def test_nothing_is_written_where_redis_is_nearly_full_or_the_model_is_none(valkey_url: str, model_name: str) -> None:
    serve(valkey_url, model_name)

    async def run() -> None:
        async with front_ends(valkey_url, 1, model_of(model_name)) as (one,):
            one.answers("nobody", 5)
            one.answers(model_name, 5)
            one.catalogue = Catalogue(one.catalogue.models, redis_ok=True, memory_full=True)
            await one.recorder.tick()

    asyncio.run(run())
    assert written(valkey_url, model_name) == []
    assert written(valkey_url, "nobody") == []


def test_what_others_write_into_the_ring_breaks_nothing(valkey_url: str, model_name: str) -> None:
    serve(valkey_url, model_name)
    with connect(valkey_url) as client:
        for message in (b"", b"\xc1", b"x" * 300_000, b"\x97\x01"):
            client.xadd(keys.history(model_name), {"r": message})
        client.xadd(keys.history(model_name), {"other": b"field"})
        client.pexpire(keys.history(model_name), 600_000)

    async def run() -> Any:
        async with front_ends(valkey_url, 1, model_of(model_name)) as (one,):
            one.answers(model_name, 5)
            await one.recorder.tick()
            return await history(one, model_name)

    assert seen(asyncio.run(run())["rate"])


def test_the_rights_of_a_front_end_are_enough(tmp_path: Path, model_name: str) -> None:
    """To write, to read, and to look at everything that the console shows."""
    config = ServerConfig(tmp_path, free_port(), appendonly="no", maxmemory_mb=64)
    with EmbeddedServer(config) as server:
        serve(server.url, model_name, busy="0.5")
        with connect(server.url) as client:
            head, *selectors = acl.rule("front_end", ">secret").split(" (")
            client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
            client.xadd(keys.dead_letters(model_name, "default"), {"m": b"dead"})

        async def run() -> Any:
            url = server.url.replace("://", "://front_end:secret@")
            async with front_ends(url, 1, model_of(model_name)) as (one,):
                one.answers(model_name, 10)
                await one.recorder.tick()
                await one.recorder.tick()
                client = connect_async(url, 3.0)
                link = Link(client)
                seen_now = await Looker(link, 600_000).look(one.catalogue, {model_name}, thoroughly=True)
                await link.close()
                await client.aclose()
                return await history(one, model_name), seen_now

        found, seen_now = asyncio.run(run())
        rows = written(server.url, model_name)
    assert seen(found["rate"])
    assert rows[0].gauges is not None
    assert rows[0].gauges.lanes["default"].done == 0
    model = seen_now.models[model_name]
    assert (model.dead, model.lanes["default"].running, model.workers[0].number("busy")) == (1, 0, 0.5)
    assert seen_now.memory_used

"""The request log on a real server: both sides write it, one id is found in it, and it stays within its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumer.request_log.redis_log import RedisLog
from headrace.redis import acl
from producer_api.request_log import redis_log as module
from producer_api.request_log.ended import MOST_HELD, EndedRequests
from producer_api.request_log.redis_log import Found, RedisRequestLog
from shared import keys
from shared.redis.client import connect
from shared.settings import Settings
from shared.wire.outcomes import RequestError
from shared.wire.request_log import BY_FRONT_END, MOST_FOUND, BatchEnd, ConsumerHalf, FrontHalf, Half, ItemEnd, encode
from tests.helpers import eventually_async

pytestmark = pytest.mark.anyio


def settings(url: str, mb: int = 1) -> Settings:
    return Settings(redis_url=url, request_log_mb=mb)


@asynccontextmanager
async def opened(url: str, dropped: dict[str, int] | None = None, mb: int = 1) -> AsyncIterator[RedisRequestLog]:
    counts = {} if dropped is None else dropped

    def count(model: str, more: int) -> None:
        counts[model] = counts.get(model, 0) + more

    log = RedisRequestLog(settings(url, mb), "fe-1", EndedRequests(), count)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


def end(request_id: str, at_s: float = 2.0) -> Any:
    return ("default", request_id, "ok", at_s - 1, at_s - 0.9, at_s - 0.1, at_s, None)


def batch(ids: Iterable[str]) -> BatchEnd:
    items = [ItemEnd("ok", 0.1, 0.2, 0.0, None, one, "default", 1) for one in ids]
    return BatchEnd(1, 5.0, len(items), "full", 0.1, 0.0, 0.1, None, items)


async def found(log: RedisRequestLog, model: str, request_id: str) -> Found:
    return (await log.look_up([model], request_id))[model]


async def both(log: RedisRequestLog, model: str) -> list[Half]:
    """Wait until both sides have said what they know of r1."""
    give_up_s = asyncio.get_running_loop().time() + 20
    while len(halves := (await found(log, model, "r1")).halves) < 2:
        assert asyncio.get_running_loop().time() < give_up_s
        await asyncio.sleep(0.02)
    return halves


async def test_both_halves_are_found_by_the_id(redis_url: str, model_name: str) -> None:
    written = RedisLog(settings(redis_url), model_name)
    assert written.write(encode("w1", 5.0, [batch(["r1", "r2"])]))
    written.close()
    async with opened(redis_url) as log:
        log.ended.note(model_name, end("r1"))

        assert {type(one) for one in await both(log, model_name)} == {FrontHalf, ConsumerHalf}
        assert [type(one) for one in (await found(log, model_name, "r2")).halves] == [ConsumerHalf]
        assert (await found(log, model_name, "r3")).halves == []
    with connect(redis_url) as client:
        assert 0 < client.pttl(keys.request_log(model_name)) <= 3_600_000


async def test_what_is_left_is_written_at_the_end(redis_url: str, model_name: str) -> None:
    async with opened(redis_url) as log:
        log.ended.note(model_name, end("last"))
    async with opened(redis_url) as log:
        assert len((await found(log, model_name, "last")).halves) == 1


async def test_it_stays_within_its_bytes_and_loses_the_oldest(redis_url: str, model_name: str) -> None:
    written = RedisLog(settings(redis_url), model_name)
    for number in range(300):
        assert written.write(encode("w1", 5.0, [batch(f"{number:04d}-{index:027d}" for index in range(100))]))
    written.close()
    with connect(redis_url) as client:
        used: Any = client.memory_usage(keys.request_log(model_name), samples=0)
        assert used < 1.1 * (1 << 20)
        assert client.xlen(keys.request_log(model_name)) > 50
    async with opened(redis_url) as log:
        assert (await found(log, model_name, f"{299:04d}-{5:027d}")).halves
        gone = await found(log, model_name, f"{0:04d}-{5:027d}")
        assert gone.halves == []
        assert gone.is_complete
        assert gone.oldest_ms is not None
        assert gone.oldest_ms <= gone.now_ms


async def test_bytes_of_strangers_in_the_log_hide_nothing(redis_url: str, model_name: str) -> None:
    key = keys.request_log(model_name)
    with connect(redis_url) as client:
        client.xadd(key, {BY_FRONT_END: encode("fe-1", 2.0, [end("r1")])})
        for noise in (b"r1", b"\x94\x01\xa1w\xc0r1", b"r1" * 10_000, encode("<b>", 2.0, [end("r1")])):
            client.xadd(key, {BY_FRONT_END: noise})
            client.xadd(key, {b"another": noise, b"c": noise})
        client.pexpire(key, 60_000)
    async with opened(redis_url) as log:
        assert len((await found(log, model_name, "r1")).halves) == 1


async def test_a_long_log_is_read_no_further_than_it_must(redis_url: str, model_name: str) -> None:
    key = keys.request_log(model_name)
    with connect(redis_url) as client:
        for number in range(40):
            entry = encode("w1", 5.0, [batch([f"r{number}", "filler" * 10])])
            client.xadd(key, {b"c": entry}, id=f"{(number + 1) * 10_000}-0")
        client.pexpire(key, 60_000)
    async with opened(redis_url) as log:
        newest = await found(log, model_name, "r39")
        assert len(newest.halves) == 1
        assert newest.oldest_ms is not None
        assert newest.oldest_ms > 100_000  # the other half would have been added at about the same time
        oldest = await found(log, model_name, "r0")
        assert (len(oldest.halves), oldest.oldest_ms) == (1, 10_000)


async def test_an_id_that_every_request_has_is_looked_up_no_longer_than_others(redis_url: str, model_name: str) -> None:
    key = keys.request_log(model_name)
    with connect(redis_url) as client:
        for number in range(30):
            client.xadd(key, {b"f": encode("fe-1", 2.0, [end("same")] * 500)}, id=f"{(number + 1) * 10}-0")
        client.pexpire(key, 60_000)
    async with opened(redis_url) as log:
        some = await found(log, model_name, "same")
    assert MOST_FOUND <= len(some.halves) <= 4 * MOST_FOUND
    assert some.oldest_ms is not None
    assert some.oldest_ms > 200


async def test_a_second_look_reads_only_what_is_new(redis_url: str, model_name: str) -> None:
    key = keys.request_log(model_name)
    async with opened(redis_url) as log:
        with connect(redis_url) as client:
            client.xadd(key, {b"c": encode("w1", 5.0, [batch(["r1"])])})
            client.pexpire(key, 60_000)
            before = await log.look_up([model_name], "r1")
            client.xadd(key, {b"f": encode("fe-1", 2.0, [end("r1")])})
        after = (await log.look_up([model_name], "r1", before))[model_name]
        assert sorted(type(one).__name__ for one in after.halves) == ["ConsumerHalf", "FrontHalf"]
        assert after.oldest_ms == before[model_name].oldest_ms


async def test_so_many_may_look_and_no_more(redis_url: str, model_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    async with opened(redis_url) as log:
        looks = [asyncio.create_task(log.look_up([model_name], "r1")) for _ in range(5)]
        results = await asyncio.gather(*looks, return_exceptions=True)
    codes = [one.outcome.code for one in results if isinstance(one, RequestError)]
    assert codes == ["overloaded"] * 2


async def test_what_cannot_be_written_is_counted(redis_url: str, model_name: str) -> None:
    dropped: dict[str, int] = {}
    with connect(redis_url) as client:
        client.set(keys.request_log(model_name), b"no stream", px=60_000)
    async with opened(redis_url, dropped) as log:
        for _ in range(3):
            log.ended.note(model_name, end("r1"))
        await eventually_async(lambda: dropped)
        with pytest.raises(RequestError, match="did not answer"):
            await found(log, model_name, "r1")
    assert dropped == {model_name: 3}


async def test_without_a_server_requests_go_on_and_are_counted(model_name: str) -> None:
    dropped: dict[str, int] = {}
    async with opened("redis://127.0.0.1:1", dropped) as log:
        log.ended.note(model_name, end("r1"))
        await eventually_async(lambda: dropped)
        with pytest.raises(RequestError, match="did not answer"):
            await found(log, model_name, "r1")


def test_more_than_fits_is_dropped_and_counted() -> None:
    ended = EndedRequests()
    for number in range(MOST_HELD + 5):
        ended.note("m", end(str(number)))
    assert ended.dropped == {"m": 5}
    assert len(ended.take()["m"]) == MOST_HELD
    assert ended.take() == {}


async def test_the_users_of_the_security_page_may_do_it(valkey_url: str, model_name: str) -> None:
    with connect(valkey_url) as client:
        for role in ("front_end", "consumer"):
            head, *selectors = acl.rule(role, ">secret", model_name).split(" (")
            arguments = [*head.split(), *(f"({selector}" for selector in selectors)]
            name = f"{model_name}-{role}"
            client.execute_command("ACL", "SETUSER", name, *arguments[2:])
    try:
        place = valkey_url.removeprefix("redis://")
        written = RedisLog(settings(f"redis://{model_name}-consumer:secret@{place}"), model_name)
        assert written.write(encode("w1", 5.0, [batch(["r1"])]))
        written.close()
        dropped: dict[str, int] = {}
        async with opened(f"redis://{model_name}-front_end:secret@{place}", dropped) as log:
            log.ended.note(model_name, end("r1"))

            await both(log, model_name)
        assert dropped == {}
    finally:
        with connect(valkey_url) as client:
            client.execute_command("ACL", "DELUSER", f"{model_name}-front_end", f"{model_name}-consumer")

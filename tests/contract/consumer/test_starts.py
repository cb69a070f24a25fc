"""What a consumer says of its start, and what front ends make of it, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from consumer.queue.redis_starts import RedisBoard
from producer_api.queue.catalogue import CatalogueReader
from producer_api.queue.interface import Condition, ModelState
from shared import keys
from shared.redis.client import Link, connect, connect_async
from shared.settings import Settings
from shared.state import starts
from shared.state.starts import MOST_PLACES, PRESUMED_MS, Phase, Start


@pytest.fixture(params=["valkey_url", "redis7_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with connect(url) as client:
        yield client


def _board(url: str, model: str, place: str = "host-0", begun_ago_s: float = 0.0) -> RedisBoard:
    return RedisBoard(Settings(redis_url=url), model, "worker", place, monotonic() - begun_ago_s)


def _said(client: Any, model: str) -> dict[str, Start]:
    return starts.decode(client.hgetall(keys.starts(model)))


def _seen(url: str, model: str, configured: tuple[str, ...] = ()) -> ModelState | None:
    async def read() -> ModelState | None:
        client = connect_async(url)
        link = Link(client)
        try:
            return (await CatalogueReader(link, 5000, configured).read()).models.get(model)
        finally:
            await link.close()
            await client.aclose()

    return asyncio.run(read())


def test_a_start_is_expected_to_take_as_long_as_the_last_one_on_its_place(
    url: str, client: Any, model_name: str
) -> None:
    first = _board(url, model_name, begun_ago_s=42.0)
    first.tell(Phase.LOADING, 0.0, "load in x.py, line 1")
    state = _seen(url, model_name)
    assert state is not None
    assert state.condition is Condition.LOADING
    assert state.ready_in_s == 11  # a quarter of what it has taken: nothing is known of earlier ones
    first.tell(Phase.READY, 41.0)
    assert 42_000 <= _said(client, model_name)["host-0"].took_ms < 60_000
    second = _board(url, model_name, begun_ago_s=2.0)
    second.tell(Phase.LOADING, 0.0)
    state = _seen(url, model_name)
    assert state is not None
    assert 22 <= (state.ready_in_s or 0) <= 58


def test_what_a_switch_to_another_precision_takes_is_no_start(url: str, client: Any, model_name: str) -> None:
    board = _board(url, model_name)
    board.tell(Phase.READY, 0.0)
    took_ms = _said(client, model_name)["host-0"].took_ms
    board.tell(Phase.LOADING, 300.0)
    loads = _said(client, model_name)["host-0"]
    assert loads.seen_ms - loads.since_ms == 300_000
    board.tell(Phase.READY, 300.0)
    assert _said(client, model_name)["host-0"].took_ms == took_ms


def test_starts_that_come_to_nothing_are_counted_until_one_serves(url: str, client: Any, model_name: str) -> None:
    for failed, phase in enumerate((Phase.FAILED, Phase.LOADING, Phase.FAILED)):  # the second one was killed
        board = _board(url, model_name)
        board.tell(Phase.LOADING, 0.0)
        assert _said(client, model_name)["host-0"].failed == failed
        board.tell(phase, 0.0, "no such file")
    state = _seen(url, model_name)
    assert state is not None
    assert state.condition is Condition.FAILED
    last = _board(url, model_name)
    last.tell(Phase.LOADING, 0.0)
    state = _seen(url, model_name)
    assert state is not None
    assert state.condition is Condition.FAILED  # it is not expected to do better than three before it
    last.tell(Phase.READY, 0.0)
    assert _said(client, model_name)["host-0"].failed == 0


def test_the_next_snapshot_comes_soon_while_a_consumer_is_on_its_way(url: str, model_name: str) -> None:
    async def expects() -> bool:
        client = connect_async(url)
        link = Link(client)
        try:
            reader = CatalogueReader(link, 5000)
            state = (await reader.read()).models.get(model_name)
            assert state is not None
            return reader.expects
        finally:
            await link.close()
            await client.aclose()

    board = _board(url, model_name)
    board.tell(Phase.LOADING, 0.0)
    assert asyncio.run(expects())
    board.tell(Phase.READY, 0.0)
    assert asyncio.run(expects())  # its heartbeat is not there yet


def test_who_was_promised_loads_before_anybody_has_spoken(url: str, client: Any, model_name: str) -> None:
    state = _seen(url, model_name, (model_name,))
    assert state is not None
    assert (state.condition, state.ready_in_s) == (Condition.LOADING, PRESUMED_MS // 1000)
    assert _seen(url, model_name) is None
    assert not client.exists(keys.starts(model_name))


def test_places_that_come_and_go_do_not_fill_the_memory(url: str, client: Any, model_name: str) -> None:
    now_ms = int(client.time()[0]) * 1000
    past = {f"pod-{index}-0": Start("w", Phase.READY, 0, now_ms - index, "", 5) for index in range(MOST_PLACES + 9)}
    client.hset(keys.starts(model_name), mapping={place: starts.encode(one) for place, one in past.items()})
    _board(url, model_name, "new-0").tell(Phase.READY, 0.0)
    left = _said(client, model_name)
    assert len(left) == MOST_PLACES
    assert {"new-0", "pod-0-0"} <= set(left)
    assert 0 < client.pttl(keys.starts(model_name)) <= starts.KEPT_MS


@pytest.mark.parametrize("value", [b"\xff{", b"[]", b'{"worker": 1}'])
def test_what_cannot_be_read_does_no_harm(url: str, client: Any, model_name: str, value: bytes) -> None:
    client.hset(keys.starts(model_name), "host-0", value)
    _board(url, model_name).tell(Phase.LOADING, 0.0)
    state = _seen(url, model_name)
    assert state is not None
    assert state.ready_in_s == PRESUMED_MS // 1000

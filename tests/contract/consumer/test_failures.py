"""What supervisors and consumers say of failures, and what a front end and an operator read, on real servers."""

from __future__ import annotations

import asyncio
import time

import pytest

from headrace.redis import inspection
from headrace.stack.child import ChildSpec, Stage
from headrace.stack.crashes import Crash
from headrace.stack.failure_board import FailureBoard
from producer_api.queue.catalogue import CANNOT_LOAD, LONGEST_PAUSE_MS, CatalogueReader
from producer_api.queue.interface import ModelState
from shared import keys
from shared.names import host_name
from shared.redis.client import Link, connect, connect_async
from shared.state.failures import Failure, encode
from shared.state.starts import Phase, Start
from shared.state.starts import encode as encode_start
from tests.helpers import eventually


@pytest.fixture(params=["valkey_url", "redis7_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def _seen(url: str, model: str) -> ModelState | None:
    """What a front end knows of the model."""

    async def read() -> ModelState | None:
        client = connect_async(url)
        link = Link(client)
        try:
            return (await CatalogueReader(link, 5000).read()).models.get(model)
        finally:
            await link.close()
            await client.aclose()

    return asyncio.run(read())


def _failures(url: str, model: str) -> dict[str, Failure]:
    with connect(url) as client:
        found = [one for one in inspection.models(client) if one.name == model]
        return dict(found[0].failures) if found else {}


def _crash(model: str, index: int, deaths: int = 3) -> Crash:
    spec = ChildSpec(f"consumer {model} {index}", ("x",), Stage.CONSUMER, model=model, index=index)
    return Crash(spec, 139, deaths, 8.0, time.monotonic() + 8.0, "Segmentation fault")


def test_what_the_supervisor_shows_is_seen_by_front_ends_and_operators_until_it_is_over(
    url: str, model_name: str
) -> None:
    complaints: list[str] = []
    board = FailureBoard(url, complaints.append)
    board.show({"one": _crash(model_name, 0), "two": _crash(model_name, 1, deaths=1)})
    found = eventually(lambda: _failures(url, model_name))
    first = found[f"{host_name()}-0"]
    assert (first.exit_code, first.deaths, first.why) == (139, 3, "Segmentation fault")
    assert 6000 < first.retry_at_ms - first.seen_ms <= 8000
    state = _seen(url, model_name)
    assert state is not None
    assert not state.is_open
    said = state.failures[f"{host_name()}-0"]
    assert said.startswith("It ended 3 times in a row, last with exit status 139; it is started again in ")
    assert "Segmentation" not in said  # what a process prints is for operators
    board.show({"two": _crash(model_name, 1)})
    eventually(lambda: list(_failures(url, model_name)) == [f"{host_name()}-1"])
    board.show({})
    eventually(lambda: not _failures(url, model_name))
    assert complaints == []


def test_it_goes_by_itself_when_the_supervisor_does(url: str, model_name: str) -> None:
    board = FailureBoard(url, print)
    board.show({"one": _crash(model_name, 0)})
    eventually(lambda: _failures(url, model_name))
    with connect(url) as client:
        assert 0 < client.pttl(keys.failures(model_name)) <= 20_000
    board.show({})


def test_what_is_old_or_cannot_be_read_does_not_count(url: str, model_name: str) -> None:
    with connect(url) as client:
        now = inspection.now_ms(client)
        client.zadd(keys.MODELS, {model_name: now})
        fields = {
            "old": encode(Failure(1, 1, now, now - 60_000)),
            "strange": b"\xff{",
            "other": b'{"exit_code": "many"}',
            b"\xff": encode(Failure(1, 1, now, now)),
        }
        client.hset(keys.failures(model_name), mapping=fields)
        client.expire(keys.failures(model_name), 60)
    state = _seen(url, model_name)
    assert state is not None
    assert state.failures == {}
    assert _failures(url, model_name) == {}


def test_a_consumer_without_our_supervisor_says_itself_that_it_cannot_load(url: str, model_name: str) -> None:
    with connect(url) as client:
        now = inspection.now_ms(client)
        client.zadd(keys.MODELS, {model_name: now})
        starts = {
            "pod-1-0": Start("w1", Phase.FAILED, now, now, "ValueError: /secret/path"),
            "pod-2-0": Start("w2", Phase.FAILED, now, now - LONGEST_PAUSE_MS - 1, "long gone"),
            "pod-3-0": Start("w3", Phase.READY, now, now),
        }
        client.hset(keys.starts(model_name), mapping={place: encode_start(one) for place, one in starts.items()})
        client.expire(keys.starts(model_name), 60)
    state = _seen(url, model_name)
    assert state is not None
    assert state.failures == {"pod-1-0": CANNOT_LOAD}

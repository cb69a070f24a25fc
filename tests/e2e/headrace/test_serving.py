"""`headrace pause`, `resume` and `drain` with real processes: who claims, who refuses, and what clients see."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from tests.e2e.stack import Response, Stack, call, echo_models, shared_front_end
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace

LIMIT = 6

wait_until = partial(eventually, limit_s=50.0)


@pytest.fixture(scope="module")
def front_end(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("front_end")
    with shared_front_end(valkey_url, folder, LEASE_MS="1500", LANE_LIMIT=str(LIMIT)) as url:
        yield url


@pytest.fixture
def stack(front_end: str, valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    with Stack(valkey_url, echo_models(tmp_path, model_name), LEASE_MS="1500", LANE_LIMIT=str(LIMIT)) as stack:
        stack.url = front_end
        yield stack


def depth(url: str, model: str) -> tuple[int, int]:
    """Length of the work stream, and how many of its entries are claimed."""
    work = keys.work(model, keys.DEFAULT_LANE)
    with connect(url) as redis:
        return redis.xlen(work), redis.xpending(work, keys.GROUP)["pending"]


def beats(url: str, model: str, count: int) -> None:
    """Wait until each worker has said so many times more that it lives."""
    with connect(url) as redis:
        for worker in redis.zrange(keys.workers(model), 0, -1):
            place = keys.worker(model, worker.decode())
            for _ in range(count):
                known = (None, redis.hget(place, "seen_ms"))
                wait_until(partial(_is_new, redis, place, known))


def _is_new(redis: Any, place: str, known: tuple[bytes | None, ...]) -> bool:
    return redis.hget(place, "seen_ms") not in known


def ask(stack: Stack, model: str, pool: ThreadPoolExecutor, count: int) -> list[Future[Response]]:
    return [pool.submit(stack.predict, model, b"%d" % number, query="?timeout_ms=30000") for number in range(count)]


def serving(stack: Stack, model: str) -> str:
    """What the front end says of the model."""
    found: str = call(f"{stack.url}/v1/models/{model}").body["serving"]
    return found


# With a window reading overlaps with running; without one echo's executor reads for itself.
@pytest.mark.parametrize("window_ms", ["0", "20"])
def test_while_paused_requests_wait_and_nothing_is_claimed(
    stack: Stack, valkey_url: str, model_name: str, window_ms: str
) -> None:
    stack.start_consumer(model_name, WINDOW_MS=window_ms, BATCH_POLICY="window")
    stack.wait(model_name)
    paused = headrace(valkey_url, "pause", model_name, "--json")
    assert (paused.code, paused.json) == (
        0,
        {"model": model_name, "serving": "paused", "outcome": "done", "left": 0},
    )
    with ThreadPoolExecutor(LIMIT) as pool:
        answers = ask(stack, model_name, pool, LIMIT)
        wait_until(lambda: depth(valkey_url, model_name)[0] == LIMIT)
        full = stack.predict(model_name, b"one too many")
        assert (full.status, full.body["error"]["code"]) == (429, "lane_full")
        # Another consumer that starts now claims nothing either.
        stack.start_consumer(model_name)
        beats(valkey_url, model_name, 2)
        assert depth(valkey_url, model_name) == (LIMIT, 0)
        assert wait_until(lambda: serving(stack, model_name)) == "paused"
        ready = call(f"{stack.url}/readyz")
        assert ready.status == 200
        assert [one["serving"] for one in ready.body["models"] if one["name"] == model_name] == ["paused"]
        shown = headrace(valkey_url, "status", "--interval", "0", "--json").json["models"]
        [model] = [one for one in shown if one["model"] == model_name]
        assert (model["serving"], [one["serving"] for one in model["workers"]]) == ("paused", ["paused"] * 2)
        resumed = headrace(valkey_url, "resume", model_name)
        assert (resumed.code, "is open" in resumed.out) == (0, True)
        assert [answer.result().status for answer in answers] == [200] * LIMIT
    assert depth(valkey_url, model_name) == (0, 0)


def test_what_expires_while_paused_is_504_at_its_deadline_and_never_runs(
    stack: Stack, valkey_url: str, model_name: str
) -> None:
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert headrace(valkey_url, "pause", model_name).code == 0
    ended = stack.ended(consumer, "expired")
    answer = stack.predict(model_name, b"x", query="?timeout_ms=300&id=late-1")
    assert (answer.status, answer.body["error"]["code"]) == (504, "unknown_outcome")
    assert (ended, depth(valkey_url, model_name)) == (0, (1, 0))
    assert headrace(valkey_url, "resume", model_name).code == 0
    wait_until(lambda: depth(valkey_url, model_name) == (0, 0))
    wait_until(lambda: stack.ended(consumer, "expired") > 0)
    assert stack.predict(model_name, b"x", query="?id=late-1").status == 200


def test_a_drained_model_finishes_what_it_has_and_takes_nothing(stack: Stack, valkey_url: str, model_name: str) -> None:
    stack.start_consumer(model_name)
    stack.wait(model_name)
    assert headrace(valkey_url, "pause", model_name).code == 0
    with ThreadPoolExecutor(LIMIT) as pool:
        answers = ask(stack, model_name, pool, LIMIT - 1)
        wait_until(lambda: depth(valkey_url, model_name)[0] == LIMIT - 1)
        drained = headrace(valkey_url, "drain", model_name, "--json")
        assert (drained.code, drained.json) == (
            0,
            {"model": model_name, "serving": "draining", "outcome": "done", "left": 0},
        )
        assert f"draining {model_name}: " in drained.err
        assert [answer.result().status for answer in answers] == [200] * (LIMIT - 1)
    refused = stack.predict(model_name, b"x")
    assert (refused.status, refused.body["error"]["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    ready = call(f"{stack.url}/readyz")
    assert [(one["ready"], one["serving"]) for one in ready.body["models"] if one["name"] == model_name] == [
        (False, "draining")
    ]
    assert headrace(valkey_url, "resume", model_name).code == 0
    wait_until(lambda: stack.predict(model_name, b"x").status == 200)


def test_a_drain_ends_with_its_time_or_when_somebody_resumes(stack: Stack, valkey_url: str, model_name: str) -> None:
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    consumer.signal(signal.SIGSTOP)
    request = Request("r1", 60_000, "application/octet-stream", b"x")
    with connect(valkey_url) as redis:
        redis.xadd(keys.work(model_name, keys.DEFAULT_LANE), {keys.MESSAGE_FIELD: encode_request(request)})
    late = headrace(valkey_url, "drain", model_name, "--timeout", "0.1", "--json")
    assert (late.code, late.json["outcome"], late.json["left"]) == (3, "timeout", 1)
    with connect(valkey_url) as redis, ThreadPoolExecutor(1) as pool:
        place = keys.desired_state(model_name)
        redis.hdel(place, "serving")

        def end_it() -> None:
            wait_until(lambda: redis.hget(place, "serving") == b"draining")
            redis.hset(place, "serving", "paused")

        ending = pool.submit(end_it)
        ended = headrace(valkey_url, "drain", model_name)
        ending.result()
    assert (ended.code, "somebody else ended the drain" in ended.out) == (1, True)
    consumer.signal(signal.SIGCONT)
    assert headrace(valkey_url, "resume", model_name).code == 0
    wait_until(lambda: depth(valkey_url, model_name) == (0, 0))


def test_usage_and_a_model_without_workers(valkey_url: str, model_name: str) -> None:
    for verb in ("pause", "resume", "drain"):
        for name in (model_name, "no}such"):
            said = headrace(valkey_url, verb, name)
            assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    with connect(valkey_url) as redis:
        redis.zadd(keys.MODELS, {model_name: 1})
        said = headrace(valkey_url, "pause", model_name, "--json")
        assert (said.code, said.json["outcome"]) == (0, "stored")
        assert headrace(valkey_url, "drain", model_name, "--json").json["outcome"] == "done"
        assert redis.hget(keys.desired_state(model_name), "serving") == b"draining"
        redis.zrem(keys.MODELS, model_name)
        redis.delete(keys.desired_state(model_name))

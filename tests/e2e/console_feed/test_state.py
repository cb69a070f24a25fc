"""The console's data from a running stack: what a model, its workers and its lanes do, once and as a stream."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.console_feed.streams import events, get
from tests.e2e.stack import Stack, call, echo_models
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def model() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def stack(own_server_url: str, tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[Stack]:
    with Stack(own_server_url, echo_models(tmp_path_factory.mktemp("feed"), model)) as stack:
        stack.begin_consumer(model)
        stack.begin_consumer(model)
        stack.start_front_end()
        stack.wait(model)
        yield stack


def test_state_tells_of_models_workers_and_lanes(stack: Stack, model: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert {answer.status for answer in pool.map(lambda _: stack.predict(model, b"hello"), range(60))} == {200}
    wrong = stack.predict(model, b"hello", "image/jpeg")
    assert 400 <= wrong.status < 500

    def settled() -> Any:
        state = get(f"{stack.url}/console/state", model=model)
        done = state["model"]["rate"] > 0 and len(state["model"]["workers"]) == 2
        return state if done and any(one["batch"] for one in state["model"]["workers"]) else None

    state = eventually(settled, limit_s=20)
    assert state["redis"]["ok"]
    assert state["redis"]["memory_used"] > 0
    line = next(one for one in state["models"] if one["name"] == model)
    detail = state["model"]
    assert {name: detail[name] for name in line if name != "workers"} == {
        name: line[name] for name in line if name != "workers"
    }
    assert line["workers"] == 2
    assert line["state"] == "ready"
    assert line["ready"]
    assert line["errors_rate"] == 0
    assert line["goodput"] == 1
    assert 0 < line["p50_ms"] <= line["p95_ms"] <= line["p99_ms"] < 60_000
    assert 0 <= line["busy"] <= 1
    for worker in detail["workers"]:
        assert worker["host"]
        assert worker["unit"] == "row"
        assert worker["fixed_ms"] >= 0
        assert worker["per_row_ms"] >= 0
        assert 0 <= worker["busy"] <= 1
        assert 0 <= worker["seen_ms"] < 5000
        assert worker["serving"] == "open"
    [lane] = detail["lanes"]
    assert lane["name"] == "default"
    assert lane["kind"] == "ordinary"
    assert lane["dead"] == 0
    assert lane["rate"] > 0
    assert lane["oldest_s"] is None


def test_without_a_model_the_detail_is_null_and_an_unknown_one_is_refused(stack: Stack) -> None:
    assert get(f"{stack.url}/console/state")["model"] is None
    refused = call(f"{stack.url}/console/state?model=nobody")
    assert (refused.status, refused.body["error"]["code"]) == (404, "unknown_model")
    twice = call(f"{stack.url}/console/state?model=a&model=b")
    assert (twice.status, twice.body["error"]["field"]) == (400, "model")


def test_a_stream_shows_what_changes(stack: Stack, own_server_url: str, model: str) -> None:
    """A dead letter, a paused lane with a request in it, and that lane's kind."""
    with connect(own_server_url) as client, events(stack.url, model=model) as stream:
        first = stream.next()
        assert first["model"]["name"] == model
        client.xadd(keys.dead_letters(model, "default"), {"id": "x", "reason": "a test", "m": b"", "sum": 0})
        client.expire(keys.dead_letters(model, "default"), 600)
        client.hset(keys.lanes(model), mapping={"night": "10,1", "night:kind": "batch", "night:paused": "1"})
        state = stream.until(lambda state: state["model"]["dead"] == 1 and len(state["model"]["lanes"]) == 2)
        lane = state["model"]["lanes"][1]
        assert (lane["name"], lane["kind"], lane["limit"], lane["weight"]) == ("night", "batch", 10, 1.0)
        client.xadd(keys.work(model, "night"), {"m": b"anything"}, nomkstream=False)
        state = stream.until(lambda state: state["model"]["lanes"][1]["depth"] == 1)
        whats = [reason["what"] for reason in state["health"]["reasons"]]
        assert any("Lane night" in what and "paused" in what for what in whats), whats
        assert any("1 dead letters" in what for what in whats), whats
        assert state["health"]["level"] == "warn"
        client.hdel(keys.lanes(model), "night", "night:kind", "night:paused")
        client.delete(keys.dead_letters(model, "default"), keys.work(model, "night"))
        stream.until(lambda state: len(state["model"]["lanes"]) == 1 and state["model"]["dead"] == 0)


def test_the_past_is_drawn_from_what_was_written(stack: Stack, model: str) -> None:
    url = f"{stack.url}/console/history"
    found = eventually(
        lambda: columns if any((columns := get(url, model=model, minutes="5"))["rate"]) else None, limit_s=40
    )
    assert found["step_s"] == 10
    lengths = {name: len(column) for name, column in found.items() if name != "step_s"}
    assert set(lengths.values()) == {len(found["at_s"])}
    assert set(lengths) == {"at_s", "rate", "errors", "p50_ms", "p95_ms", "p99_ms", "depth", "busy", "batch", "goodput"}
    assert 30 <= len(found["at_s"]) <= 31
    assert any(found["p99_ms"])
    assert 1 in found["goodput"]
    few = get(url, model=model, lane="default", minutes="1440", points="10")
    assert (few["step_s"], len(few["at_s"]) <= 11) == (8640, True)


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("", 400, "malformed", "model"),
        ("model=nobody", 404, "unknown_model", None),
        ("model=M&lane=nowhere", 404, "unknown_lane", "lane"),
        ("model=M&lane=%3Cscript%3E", 404, "unknown_lane", "lane"),
        ("model=M&minutes=0", 400, "malformed", "minutes"),
        ("model=M&minutes=1441", 400, "malformed", "minutes"),
        ("model=M&minutes=1e3", 400, "malformed", "minutes"),
        ("model=M&points=-1", 400, "malformed", "points"),
        ("model=M&points=9999999999", 400, "malformed", "points"),
        ("model=M&points=1&points=2", 400, "malformed", "points"),
    ],
)
def test_questions_about_the_past_that_cannot_be_answered(
    stack: Stack, model: str, query: str, status: int, code: str, field: str | None
) -> None:
    refused = call(f"{stack.url}/console/history?{query.replace('=M', '=' + model)}")
    assert (refused.status, refused.body["error"]["code"], refused.body["error"]["field"]) == (status, code, field)

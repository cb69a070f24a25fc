"""Requests that come while no consumer lives: they wait for one, if their time covers its start."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.cold.crowd import Crowd, held, until_held
from tests.e2e.models.slow_to_load import models_file
from tests.e2e.stack import Stack, call
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

CROWD = 200


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which the model waits while it loads."""
    return tmp_path / "may-load"


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server where no consumer of other tests lives, which would make a front end ready."""
    config = ServerConfig(tmp_path_factory.mktemp("valkey"), free_port(), appendonly="no", maxmemory_mb=256)
    with EmbeddedServer(config) as server:
        yield server.url


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str, gate: Path) -> Iterator[Stack]:
    with Stack(
        valkey_url, models_file(tmp_path, model_name, gate), LEASE_MS="1000", DATA_DIR=str(tmp_path / "data")
    ) as stack:
        yield stack


def target(model: str, timeout_ms: int = 60_000) -> str:
    return f"/v1/models/{model}/predict?timeout_ms={timeout_ms}"


def state(stack: Stack, model: str) -> str:
    [found] = [one for one in call(f"{stack.url}/v1/models").body["models"] if one["name"] == model]
    return str(found["state"])


def test_two_hundred_requests_before_any_worker_lives_and_after_the_last_was_killed(
    stack: Stack, model_name: str, gate: Path
) -> None:
    # Redis has never heard of the model.
    front = stack.start_front_end(MODELS=model_name)
    first = Crowd(stack.url, target(model_name), CROWD)
    until_held(stack.url, model_name, CROWD)
    eventually(lambda: call(f"{stack.url}/readyz").status == 503)
    consumer = stack.begin_consumer(model_name)
    consumer.until("waits to be loaded")
    assert held(stack.url, model_name) == CROWD
    gate.touch()
    assert first.statuses() == {200: CROWD}
    eventually(lambda: held(stack.url, model_name) == 0)
    assert {answer["outputs"][0]["data"] is not None for _, _, answer in first.answers()} == {True}

    # The last worker is killed: now the card is known, and what waits is in the queue.
    consumer.signal(signal.SIGKILL)
    eventually(lambda: state(stack, model_name) == "away")
    gate.unlink()
    second = Crowd(stack.url, target(model_name), CROWD)
    until_held(stack.url, model_name, CROWD)
    reasons = call(f"{stack.url}/readyz").body["reasons"]
    assert any(one.startswith("No model has a live worker: ") and model_name in one for one in reasons)
    assert any(one.startswith(f"Requests for {model_name} that may take ") for one in reasons)
    stack.begin_consumer(model_name).until("waits to be loaded")
    gate.touch()
    assert second.statuses() == {200: CROWD}
    eventually(lambda: held(stack.url, model_name) == 0)
    assert front.popen.poll() is None


def test_what_cannot_wait_so_long_is_told_at_once_how_long_it_takes(stack: Stack, model_name: str, gate: Path) -> None:
    gate.touch()
    stack.start_front_end(MODELS=model_name)
    [(status, headers, answer)] = Crowd(stack.url, target(model_name, 500), 1).answers()
    assert (status, answer["error"]["code"]) == (503, "loading")
    assert int(headers["retry-after"]) > 5
    assert f"probably take {headers['retry-after']} s, longer than the 0.5 s" in answer["error"]["message"]
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert consumer.terminate() == 0
    eventually(lambda: state(stack, model_name) == "away")
    [(status, headers, answer)] = Crowd(stack.url, target(model_name, 100), 1).answers()
    assert (status, answer["error"]["code"]) == (503, "no_worker")
    assert int(headers["retry-after"]) >= 1
    assert f"takes about {headers['retry-after']} s" in answer["error"]["message"]


def test_what_waited_in_vain_leaves_nothing_in_the_lane(
    stack: Stack, model_name: str, gate: Path, valkey_url: str
) -> None:
    gate.touch()
    stack.start_front_end(MODELS=model_name)
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert consumer.terminate() == 0
    eventually(lambda: state(stack, model_name) == "away")
    [summary] = [one for one in call(f"{stack.url}/v1/models").body["models"] if one["name"] == model_name]
    waited = Crowd(stack.url, target(model_name, 1000 * summary["held_until_s"] + 500), 3)
    with connect(valkey_url) as redis:
        work = keys.work(model_name, keys.DEFAULT_LANE)
        eventually(lambda: redis.xlen(work) == 3)
        assert waited.statuses() == {504: 3}
        eventually(lambda: redis.xlen(work) == 0)
    assert held(stack.url, model_name) == 0


def test_what_waits_is_answered_when_it_turns_out_that_the_model_cannot_be_loaded(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f'[models.{model_name}]\nfamily = "python"\nentry = "tests.e2e.nowhere:create"\n')
    with Stack(valkey_url, path, LEASE_MS="1000", DATA_DIR=str(tmp_path / "data")) as stack:
        stack.start_front_end(MODELS=model_name)
        crowd = Crowd(stack.url, target(model_name), 3)
        until_held(stack.url, model_name, 3)
        assert stack.begin_consumer(model_name).popen.wait() != 0
        assert [answer["error"]["code"] for _, _, answer in crowd.answers()] == ["no_worker"] * 3
        eventually(lambda: state(stack, model_name) == "failed")
        [(status, _, answer)] = Crowd(stack.url, target(model_name), 1).answers()
        assert (status, answer["error"]["code"]) == (503, "no_worker")
        assert held(stack.url, model_name) == 0


def test_a_front_end_that_stops_answers_what_it_holds(stack: Stack, model_name: str) -> None:
    front = stack.start_front_end(MODELS=model_name, DEFAULT_TIMEOUT_MS="100")
    crowd = Crowd(stack.url, target(model_name, 20_000), 2)
    until_held(stack.url, model_name, 2)
    front.signal(signal.SIGTERM)
    assert {answer["error"]["code"] for _, _, answer in crowd.answers()} <= {"shutting_down", "expired"}
    assert front.popen.wait() == 0


def test_it_can_be_switched_off(stack: Stack, model_name: str) -> None:
    stack.start_front_end(MODELS=model_name, HOLD_WHILE_COLD="off")
    [(status, headers, answer)] = Crowd(stack.url, target(model_name), 1).answers()
    assert (status, answer["error"]["code"]) == (503, "loading")
    assert answer["error"]["message"].endswith(f"it will probably be ready in {headers['retry-after']} s.")

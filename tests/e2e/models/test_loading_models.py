"""A model that is configured and not there yet is `loading`, from the first moment of the stack to its first answer.

Requests are refused here while it is; `tests/e2e/cold` has those that wait.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, decode_reply, encode_request
from tests.children import ROOT
from tests.e2e.models.slow_to_load import models_file
from tests.e2e.stack import Response, Stack, call
from tests.helpers import eventually


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which the model waits while it loads."""
    return tmp_path / "may-load"


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str, gate: Path) -> Iterator[Stack]:
    with Stack(
        valkey_url,
        models_file(tmp_path, model_name, gate),
        LEASE_MS="1000",
        HOLD_WHILE_COLD="off",
        DATA_DIR=str(tmp_path / "data"),
    ) as stack:
        yield stack


def told(answer: Response) -> tuple[int, str]:
    """Status and code of an error; the seconds are told twice, and alike."""
    code = answer.body["error"]["code"]
    if code == "loading":
        seconds = int(answer.headers["retry-after"])
        assert seconds >= 1
        assert f"probably be ready in {seconds} s." in answer.body["error"]["message"]
    return answer.status, code


LOADING = (503, "loading")


def test_from_the_first_word_to_the_first_answer(stack: Stack, model_name: str, gate: Path) -> None:
    stack.start_front_end(MODELS=model_name)
    # Nobody has said a word yet.
    assert told(stack.predict(model_name, b"x")) == LOADING
    assert told(call(f"{stack.url}/v1/models/{model_name}")) == LOADING
    assert told(stack.predict("nobody", b"x")) == (404, "unknown_model")
    assert told(call(f"{stack.url}/v1/models/nobody")) == (404, "unknown_model")
    ready = call(f"{stack.url}/readyz")
    assert ready.status == 503
    assert int(ready.headers["retry-after"]) >= 1
    assert any(f"Model {model_name} is loading" in reason for reason in ready.body["reasons"])
    consumer = stack.begin_consumer(model_name)
    consumer.until("waits to be loaded")
    assert told(stack.predict(model_name, b"x")) == LOADING
    assert _state(stack, model_name) == "loading"
    waiting = _wait_beside(stack, model_name)
    gate.touch()
    assert waiting.wait() == 0
    assert stack.predict(model_name, b"x").status == 200
    assert _state(stack, model_name) == "ready"


def test_a_front_end_that_was_promised_nothing_hears_of_it(stack: Stack, model_name: str, gate: Path) -> None:
    stack.start_front_end()
    assert told(stack.predict(model_name, b"x")) == (404, "unknown_model")
    stack.begin_consumer(model_name).until("waits to be loaded")
    eventually(lambda: told(stack.predict(model_name, b"x")) == LOADING)


def test_one_that_is_started_again_loads_and_one_that_has_left_has_no_worker(
    stack: Stack, model_name: str, gate: Path, valkey_url: str
) -> None:
    gate.touch()
    stack.start_front_end(MODELS=model_name)
    first = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert first.terminate() == 0
    eventually(lambda: _state(stack, model_name) == "away")
    assert told(stack.predict(model_name, b"x")) == (503, "no_worker")
    gate.unlink()
    second = stack.begin_consumer(model_name)
    second.until("waits to be loaded")
    eventually(lambda: _state(stack, model_name) == "loading")
    assert told(stack.predict(model_name, b"x")) == LOADING
    # The card of before is still there.
    card = call(f"{stack.url}/v1/models/{model_name}").body
    assert (card["state"], card["workers"]) == ("loading", 0)
    message = encode_request(Request("direct", 60_000, "application/octet-stream", b"x"))
    with connect(valkey_url) as client:
        client.xadd(keys.work(model_name, keys.DEFAULT_LANE), {keys.MESSAGE_FIELD: message}, nomkstream=True)
        gate.touch()
        stack.wait(model_name)
        # What a direct producer added meanwhile was taken: the queue was there all the time.
        reply = client.blpop([keys.reply(model_name, keys.DEFAULT_LANE, "direct")], 10)
    assert decode_reply(reply[1]).fault is None


def _state(stack: Stack, model: str) -> str:
    [found] = [one for one in call(f"{stack.url}/v1/models").body["models"] if one["name"] == model]
    return str(found["state"])


def _wait_beside(stack: Stack, model: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "loadgen", "wait", "--url", stack.url, "--model", model, "--timeout", "30s"]
    return subprocess.Popen(command, cwd=ROOT)

"""A limit in prompt tokens on a running stack: an operator sets it, and every door says 429 with both numbers."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared import keys
from shared.wire.generation import Generation
from tests.e2e.later.client import Client
from tests.e2e.stack import Stack
from tests.fault.generating.asking import Producer, null_models
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace

MOST = 2000
LONG = "x" * 1600
"""A token of the null model is a byte."""
JSON = "application/json"


@dataclass
class Place:
    """A stack whose lane may have so many prompt tokens, of which a generation that runs for long has most."""

    stack: Stack
    model: str
    url: str
    producer: Producer

    def post(self, path: str, document: Any, **headers: str) -> Any:
        return Client(self.stack).send("POST", path, json.dumps(document).encode(), Content_Type=JSON, **headers)


@pytest.fixture(scope="module")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    model_name = f"test-tokens-{secrets.token_hex(6)}"
    models = null_models(tmp_path_factory.mktemp("tokens"), model_name, step_ms=20, slots=2)
    with Stack(valkey_url, models, LANE_TOKENS=str(MOST)) as stack:
        stack.start_consumer(model_name)
        stack.start_front_end()
        producer = Producer(valkey_url, model_name)
        # Until the consumer has seen a prompt, four bytes count as a token.
        producer.reply(producer.ask(Generation(prompt=LONG, max_tokens=1)))
        eventually(lambda: producer.client.hexists(keys.lane_tokens(model_name), "default"))
        producer.ask(Generation(prompt=LONG, max_tokens=2000))
        yield Place(stack, model_name, valkey_url, producer)
        producer.close()


def told(sentence: str) -> tuple[int, int, int]:
    """The numbers of a refusal: tokens of the lane, of the request, and the limit."""
    queued, own, most = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", sentence))
    return queued, own, most


def test_every_door_holds_a_lane_to_its_prompt_tokens(place: Place) -> None:
    model, long = place.model, {"prompt": LONG, "max_tokens": 1}
    refused = place.post("/v1/completions", {"model": model, **long})
    error = refused.json["error"]
    assert (refused.status, error["code"]) == (429, "rate_limit_exceeded"), error
    queued, own, most = told(error["message"])
    assert (most, 1500 < queued < 2000, 1500 < own < 2000) == (MOST, True, True)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    path = f"/v1/models/{model}/predict"
    native = place.post(path, {"generate": long})
    assert (native.status, native.json["error"]["code"]) == (429, "lane_full")
    assert told(native.json["error"]["message"])[2] == MOST
    later = place.post(path, {"generate": long}, Prefer="respond-async")
    assert (later.status, later.json["error"]["code"]) == (429, "lane_full"), later.body
    assert told(later.json["error"]["message"])[2] == MOST
    own_id = place.post(path, {"generate": long}, Idempotency_Key="mine")
    assert own_id.status == 429
    # What is short has room.
    short = place.post("/v1/completions", {"model": model, "prompt": "hi", "max_tokens": 1})
    assert short.status == 200, short.body


def test_an_operator_sees_it_and_lifts_it(place: Place) -> None:
    model = place.model
    (lane,) = headrace(place.url, "lane", "list", model, "--json").json["lanes"]
    assert (lane["limit_tokens"], 1500 < lane["queued_tokens"] < 2000) == (MOST, True)
    set_ = headrace(place.url, "lane", "limit", model, "default", "--tokens", "0", "--json")
    assert set_.json == {"model": model, "lane": "default", "limit_tokens": 0}
    path = "/v1/completions"
    eventually(lambda: place.post(path, {"model": model, "prompt": LONG, "max_tokens": 1}).status == 200)
    made = headrace(place.url, "lane", "create", model, "gold", "--tokens", "50")
    assert (made.code, "gold" in made.out) == (0, True)
    said = headrace(place.url, "lane", "limit", model, "gold", "70", "--tokens", "60").out
    assert "and may take 60 prompt tokens" in said
    assert place.producer.client.hget(keys.lanes(model), "gold:tokens") == b"60"
    assert headrace(place.url, "lane", "limit", model, "gold", "--tokens", "-1").code == 2
    assert headrace(place.url, "lane", "remove", model, "gold", "--yes").code == 0
    assert not place.producer.client.hexists(keys.lanes(model), "gold:tokens")

"""Waiting for a first inference, against a real server."""

from __future__ import annotations

import io
import re
import socket
from typing import Any

import pytest
from PIL import Image

from loadgen.errors import LoadgenError
from loadgen.load import waiting
from loadgen.load.service import read_card, sample_payload, zero_payload
from loadgen.load.waiting import wait_for
from loadgen.scenario import Payload, Target, parse_target
from tests.e2e.http_server import HttpServer
from tests.fakes import demo_queue, echo
from tests.proof.null_server import Behaviour, null_server


def at(port: int) -> Target:
    return parse_target(f"http://127.0.0.1:{port}")


LIMIT_S = 1.5
"""Long enough for a server on a busy machine to have answered once."""


def unexpected(sentence: str) -> None:
    raise AssertionError(sentence)


def test_it_returns_with_the_first_inference_that_succeeds() -> None:
    with null_server(Behaviour(ready_at=4)) as server:
        wait_for(at(server.port), ("null",), None, 10.0, unexpected)
    assert server.inferences == 4


@pytest.mark.parametrize(
    ("behaviour", "model", "says"),
    [
        (Behaviour(ready_at=10**9), "null", "'null' answers with status 503: no_worker: not ready"),
        (Behaviour(), "nul", "has no model named 'nul'; it serves null"),
        (Behaviour(body=b"{}"), "null", "an answer without predictions or outputs"),
        (Behaviour(silent_every=1), "null", "did not answer within"),
    ],
)
def test_when_the_time_is_out_it_says_the_last_reason(behaviour: Behaviour, model: str, says: str) -> None:
    with null_server(behaviour) as server, pytest.raises(LoadgenError) as out_of_time:
        wait_for(at(server.port), (model,), None, LIMIT_S, unexpected)
    assert says in str(out_of_time.value)
    assert str(out_of_time.value).startswith(f"No inference succeeded within {LIMIT_S:g} s: ")


def test_it_waits_for_as_many_workers_as_are_expected() -> None:
    with null_server(Behaviour()) as server:
        wait_for(at(server.port), ("null",), None, 10.0, unexpected, workers=1)
        with pytest.raises(LoadgenError, match="1 of 2 workers of 'null' live"):
            wait_for(at(server.port), ("null",), None, LIMIT_S, unexpected, workers=2)


def test_when_it_takes_long_it_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_QUIET_S", 0.0)
    said: list[str] = []
    with null_server(Behaviour(ready_at=3)) as server:
        wait_for(at(server.port), ("null",), None, 10.0, said.append)
    assert said == ["Waiting for 'null', 0 of 10 s: 'null' answers with status 503: no_worker: not ready."]


def test_a_model_that_loads_is_waited_for_and_what_the_service_says_is_told() -> None:
    queue = demo_queue()
    queue.serve("new", None, echo, workers=0)
    queue.set_loading("new", 7)
    said = "'new' answers with status 503: loading: Model 'new' is loading; it will probably be ready in 7 s"
    with HttpServer(queue=queue) as server, pytest.raises(LoadgenError, match=re.escape(said)):
        wait_for(at(server.port), ("new",), None, LIMIT_S, unexpected)


def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(LoadgenError, match="Connection refused"):
            wait_for(at(reserved.getsockname()[1]), ("null",), None, 0.2, unexpected)


def test_a_refused_payload_is_not_waited_for() -> None:
    with null_server(Behaviour(fail_every=1, status=422)) as server, pytest.raises(LoadgenError, match="refuses"):
        wait_for(at(server.port), ("null",), Payload("x", "image/jpeg", b"x"), 60.0, unexpected)
    assert server.inferences == 1


@pytest.mark.parametrize("status", [413, 422, 500])
def test_a_model_that_refuses_what_was_made_up_is_ready_as_its_workers_say(status: int) -> None:
    said: list[str] = []
    with null_server(Behaviour(fail_every=1, status=status)) as server:
        wait_for(at(server.port), ("null",), None, 60.0, said.append)
    assert server.inferences == 1
    assert said[0].startswith(
        f"Model 'null' is ready, as its workers say; the request that was made up for it ends with status {status}"
    )


def test_the_example_of_a_card_is_sent_before_anything_is_made_up() -> None:
    card = {"inputs": [], "example": {"content_type": "text/plain", "body": "schön"}}
    assert (sample_payload(card).content_type, sample_payload(card).body) == ("text/plain", "schön".encode())
    card = {"inputs": [], "example": {"content_type": "a/b", "body": "AP8=", "is_base64": True}}
    assert sample_payload(card).body == b"\0\xff"


@pytest.mark.parametrize(
    "example", [7, {}, {"content_type": "a/b"}, {"content_type": "a/b", "body": "?", "is_base64": True}]
)
def test_an_example_that_is_none_is_not_sent(example: object) -> None:
    inputs = [{"name": "x", "datatype": "UINT8", "shape": [2]}]
    assert sample_payload({"inputs": inputs, "example": example}).body == b"\0\0"


@pytest.mark.parametrize(
    ("shape", "datatype", "size_bytes"),
    [([224, 224, 3], "UINT8", 150528), ([-1], "UINT8", 1), ([-1, 5], "FP32", 20), ([], "FP64", 8)],
)
def test_zeros_of_the_declared_size(shape: list[int], datatype: str, size_bytes: int) -> None:
    payload = zero_payload({"inputs": [{"name": "x", "datatype": datatype, "shape": shape}, {"shape": [9]}]})
    assert payload.body == bytes(size_bytes)
    assert payload.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "card",
    [{}, {"inputs": []}, {"inputs": [{"datatype": "BYTES", "shape": [1]}]}, {"inputs": None},
     {"inputs": [{"datatype": "UINT8", "shape": [10**12]}]}, {"inputs": [{"datatype": [], "shape": [1]}]}],
)  # fmt: skip
def test_cards_without_a_size_ask_for_a_payload(card: dict[str, Any]) -> None:
    with pytest.raises(LoadgenError, match="give a --payload"):
        zero_payload(card)


def test_the_card_as_the_service_has_it() -> None:
    with null_server() as server:
        card = read_card(at(server.port), "null", 5.0)
    assert card is not None
    assert card["name"] == "null"


def test_a_model_that_takes_pictures_only_is_sent_one() -> None:
    payload = sample_payload({"inputs": [], "content_types": ["image/jpeg", "image/png"]})
    with Image.open(io.BytesIO(payload.body)) as picture:
        picture.load()
        assert (picture.format, picture.getpixel((3, 3))) == ("PNG", 128)
    assert payload.content_type == "image/png"

"""Texts that cannot be: each is named by the door it came through, and nobody else notices."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
import redis
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from examples import direct_producer
from tests.e2e.grpc import calls
from tests.e2e.text_doors.conftest import TEXTS, Place, vectors

NO_UTF8 = b"caf\xe9"


def given(kind: Any, *texts: bytes) -> Any:
    """An input of tritonclient."""
    made = kind.InferInput("text", [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, np.object_))
    return made


def test_a_text_that_is_not_utf8(place: Place) -> None:
    plain = place.post(f"/v1/models/{place.model}/predict", NO_UTF8, "text/plain")
    assert (plain.status, plain.body["error"]["field"]) == (422, "body")
    with (
        triton_http.InferenceServerClient(place.stack.url.removeprefix("http://")) as client,
        pytest.raises(InferenceServerException, match="not UTF-8: byte 3"),
    ):
        client.infer(place.model, [given(triton_http, b"a dog", NO_UTF8)])
    with (
        triton_grpc.InferenceServerClient(place.grpc) as client,
        pytest.raises(InferenceServerException, match="not UTF-8: byte 3") as caught,
    ):
        client.infer(place.model, [given(triton_grpc, NO_UTF8)])
    assert "INVALID_ARGUMENT" in str(caught.value.status())
    with redis.Redis.from_url(place.redis_url) as client:
        name = f"{place.model}-broken"
        asked = {"v": 1, "id": name, "rt": name, "ttl_ms": 20_000, "ct": "text/plain", "body": NO_UTF8}
        client.xadd(f"hr:{{{place.model}}}:q:default", {"m": msgpack.packb(asked)}, nomkstream=True)
        key, hints = (f"hr:{{{place.model}}}:{kind}:default:{name}" for kind in ("r", "rs"))
        answer = direct_producer.wait(client, hints, key)
        assert (answer["ok"], answer["error"]["code"], answer["error"]["field"]) == (False, "invalid_input", "body")
        client.delete(key, hints)
    assert place.serves()


def test_an_empty_batch(place: Place) -> None:
    empty = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [0], "data": []}]}
    for path, body in (
        (f"/v1/models/{place.model}/predict", empty),
        (f"/v2/models/{place.model}/infer", empty),
        ("/invocations", empty),
        (f"/v1/models/{place.model}:predict", {"instances": []}),
        ("/v1/embeddings", {"model": place.model, "input": []}),
    ):
        answer = place.post(path, json.dumps(body).encode())
        assert 400 <= answer.status < 500, (path, answer.body)
        assert answer.body["error"], path
    packed = place.stack.predict(place.model, msgpack.packb([]), "application/vnd.headrace.text")
    assert (packed.status, packed.body["error"]["field"]) == (422, "body")
    message = calls.request(place.model, "BYTES", (0,), b"")
    message.inputs[0].name = "text"
    assert calls.status(place.grpc, message.SerializeToString())[0] == grpc.StatusCode.INVALID_ARGUMENT.name
    assert place.serves()


def test_one_bad_text_of_2048_is_named(place: Place) -> None:
    texts = [b"cat"] * 2048
    with triton_http.InferenceServerClient(place.stack.url.removeprefix("http://")) as client:
        texts[1234] = NO_UTF8
        with pytest.raises(InferenceServerException, match=r"1234"):
            client.infer(place.model, [given(triton_http, *texts)])
    assert place.serves()


def test_a_text_beyond_the_budget_of_a_batch_rides_alone(place: Place, expected: Any) -> None:
    """A batch has at most 16 tokens here, and this text 32."""
    long = "cat " * 30
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(place.ask, [long, TEXTS[1], long, TEXTS[0], TEXTS[2], long, TEXTS[1], TEXTS[1]]))
    assert {answer.status for answer in answers} == {200}
    found = [vectors(answer.body["outputs"])[0] for answer in answers]
    assert found[1] == pytest.approx(expected[1], abs=1e-5)
    assert found[3] == pytest.approx(expected[0], abs=1e-5)
    assert found[4] == pytest.approx(expected[2], abs=1e-5)
    assert found[0] == pytest.approx(found[2], abs=1e-5)
    assert vectors(answers[0].body["outputs"], "tokens").tolist() == [32]


def test_what_is_no_text(place: Place) -> None:
    for body, part in (
        ({"inputs": [{"name": "text", "datatype": "INT32", "shape": [1], "data": [1]}]}, "BYTES"),
        ({"inputs": [{"name": "other", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}, "it has text"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a"]}]}, "shape"),
        ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [1]}]}, "data"),
    ):
        answer = place.post(f"/v1/models/{place.model}/predict", json.dumps(body).encode())
        assert 400 <= answer.status < 500, body
        assert part in json.dumps(answer.body["error"]), answer.body
    assert place.serves()

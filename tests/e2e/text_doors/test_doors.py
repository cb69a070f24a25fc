"""The same texts through every door get the same vectors."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import msgpack
import numpy as np
import pytest
import redis
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from examples import direct_producer
from examples.fast_producer import FastProducer
from tests.e2e.stack import call
from tests.e2e.text_doors.conftest import TEXTS, Place, vectors
from tests.helpers import eventually

PACKED = "application/vnd.headrace.text"


def tensor(texts: tuple[str, ...]) -> dict[str, Any]:
    """As the Open Inference Protocol writes it."""
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}


def test_a_list_of_texts_as_msgpack(place: Place, expected: Any) -> None:
    answer = place.stack.predict(place.model, msgpack.packb(list(TEXTS)), PACKED)
    assert vectors(answer.body["outputs"]) == pytest.approx(expected, abs=1e-5)
    assert vectors(answer.body["outputs"], "tokens").tolist() == [8, 4, 4]


def test_open_inference_over_rest(place: Place, expected: Any) -> None:
    with triton_http.InferenceServerClient(place.stack.url.removeprefix("http://")) as client:
        given = triton_http.InferInput("text", [len(TEXTS)], "BYTES")
        for is_binary in (True, False):
            given.set_data_from_numpy(np.array([text.encode() for text in TEXTS], np.object_), binary_data=is_binary)
            found = client.infer(place.model, [given]).as_numpy("embedding")
            assert found == pytest.approx(expected, abs=1e-5)


def test_open_inference_over_grpc(place: Place, expected: Any) -> None:
    with triton_grpc.InferenceServerClient(place.grpc) as client:
        given = triton_grpc.InferInput("text", [len(TEXTS)], "BYTES")
        given.set_data_from_numpy(np.array([text.encode() for text in TEXTS], np.object_))
        answer = client.infer(place.model, [given])
    assert answer.as_numpy("embedding") == pytest.approx(expected, abs=1e-5)
    assert answer.as_numpy("tokens").tolist() == [8, 4, 4]


@pytest.mark.parametrize("instances", [list(TEXTS), [{"text": text} for text in TEXTS]])
def test_kserves_first_protocol(place: Place, expected: Any, instances: list[Any]) -> None:
    body = json.dumps({"instances": instances}).encode()
    answer = place.post(f"/v1/models/{place.model}:predict", body)
    assert answer.status == 200, answer.body
    found = [one["embedding"] for one in answer.body["predictions"]]
    assert np.array(found) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("is_json", [True, False])
def test_sagemakers_path(place: Place, expected: Any, is_json: bool) -> None:
    if is_json:
        answer = place.post("/invocations", json.dumps({"inputs": [tensor(TEXTS)]}).encode())
    else:
        answer = place.post("/invocations", TEXTS[0].encode(), "text/plain")
    assert answer.status == 200, answer.body
    found = vectors(answer.body["outputs"])
    assert found == pytest.approx(expected if is_json else expected[:1], abs=1e-5)


def test_openais_embeddings(place: Place, expected: Any) -> None:
    answer = place.post("/v1/embeddings", json.dumps({"model": place.model, "input": list(TEXTS)}).encode())
    assert answer.status == 200, answer.body
    assert np.array([one["embedding"] for one in answer.body["data"]]) == pytest.approx(expected, abs=1e-5)
    assert answer.body["usage"]["prompt_tokens"] == 16


def test_a_bulk_batch_of_texts_in_which_a_bad_one_errs_alone(place: Place, expected: Any) -> None:
    lines = [{"id": f"item-{number}", "body": {"inputs": [tensor((text,))]}} for number, text in enumerate(TEXTS)]
    lines.append({"id": "long", "body": {"inputs": [tensor(("cat " * 100,))]}})
    lines.append({"id": "cut", "body": {"inputs": [tensor(("cat " * 100,))], "parameters": {"truncate": True}}})
    upload = "".join(json.dumps(line) + "\n" for line in lines).encode()
    begun = place.post(f"/v1/models/{place.model}/batches", upload, "application/jsonl")
    assert begun.status == 201, begun.body
    path = f"{place.stack.url}/v1/models/{place.model}/batches/{begun.body['id']}"
    eventually(lambda: call(path).body["state"] == "completed" or None, 40.0)
    with urllib.request.urlopen(f"{path}/results", timeout=20) as found:
        results = [json.loads(line) for line in found.read().splitlines()]
    assert [(one["id"], one["status"]) for one in results] == [
        ("item-0", 200),
        ("item-1", 200),
        ("item-2", 200),
        ("long", 400),
        ("cut", 200),
    ]
    assert results[3]["error"]["code"] == "context_length_exceeded"
    for result, vector in zip(results, expected, strict=False):
        assert vectors(result["response"]["outputs"])[0] == pytest.approx(vector, abs=1e-5)


def message(**more: Any) -> dict[str, Any]:
    """A request as a direct producer writes it."""
    return {"v": 1, "ttl_ms": 30_000, "ct": PACKED, "body": msgpack.packb(list(TEXTS)), **more}


def vectors_of(answer: Any) -> Any:
    """Of a reply on the wire."""
    found = next(one for one in answer["outputs"] if one["name"] == "embedding")
    return np.frombuffer(found["data"], "<f4").reshape(found["shape"])


def test_a_direct_producer(place: Place, expected: Any) -> None:
    with redis.Redis.from_url(place.redis_url) as client:
        for number, content in enumerate((message(), {**message(), "ct": "text/plain", "body": TEXTS[1].encode()})):
            name = f"{place.model}-direct-{number}"
            packed: Any = msgpack.packb({**content, "id": name, "rt": name})
            client.xadd(f"hr:{{{place.model}}}:q:default", {"m": packed}, nomkstream=True)
            key = f"hr:{{{place.model}}}:r:default:{name}"
            answer = direct_producer.wait(client, f"hr:{{{place.model}}}:rs:default:{name}", key)
            assert answer["ok"], answer
            assert vectors_of(answer) == pytest.approx(expected[1:2] if number else expected, abs=1e-5)
            client.delete(key, f"hr:{{{place.model}}}:rs:default:{name}")


def test_a_direct_producer_of_many(place: Place, expected: Any) -> None:
    found: list[Any] = []
    with redis.Redis.from_url(place.redis_url) as client:
        producer = FastProducer(client, place.model)
        producer.send(message(), 50)
        while producer.waiting:
            found += producer.receive()
    assert len(found) == 50
    assert all(vectors_of(answer) == pytest.approx(expected, abs=1e-5) for answer in found)


def counted(place: Place) -> tuple[float, float, float]:
    """Batches, their rows, and the batches of at most four rows, so far."""
    text = place.stack.metrics(place.consumer)

    def value(name: str, more: str = "") -> float:
        lines = [line for line in text.splitlines() if line.startswith(f"headrace_batch_size_{name}{{")]
        return float(next(line for line in lines if more in line).rpartition(" ")[2])

    return value("count"), value("sum"), value("bucket", 'le="4')


def test_under_load_the_adaptive_policy_fills_batches_with_tokens(place: Place) -> None:
    """A batch has 16 tokens here, and these texts four each: however many wait, a batch has four at most."""
    before = counted(place)
    with redis.Redis.from_url(place.redis_url) as client:
        producer = FastProducer(client, place.model)
        for _ in range(4):
            producer.send({"v": 1, "ttl_ms": 30_000, "ct": "text/plain", "body": b"a dog"}, 100)
        while producer.waiting:
            producer.receive()
    eventually(lambda: counted(place)[1] - before[1] == 400 or None)
    batches, rows, small = (now - then for now, then in zip(counted(place), before, strict=True))
    assert small == batches
    assert rows / batches > 2
    card = call(f"{place.stack.url}/v1/models/{place.model}").body
    assert (card["batch"]["unit"], card["batch"]["max_units"]) == ("token", 16)
    assert card["batch"]["per_unit_ms"] >= 0

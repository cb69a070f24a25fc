"""What perf_analyzer and the C++ client do, and the protocol with features of our own; against a running stack."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.open_inference.conftest import Place
from tests.helpers import eventually

LENGTH = "Inference-Header-Content-Length"
INPUT = {"name": "input", "shape": [1, 3], "datatype": "UINT8"}


class Client:
    """One kept connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=30)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)
        answer = self._connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def get(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def client(place: Place) -> Iterator[Client]:
    """A client of its own for each test."""
    one = Client(place.address)
    yield one
    one.close()


def test_what_perf_analyzer_asks_before_between_and_after(client: Client, place: Place) -> None:
    model = f"/v2/models/{place.echo}"
    metadata, config = client.get(model), client.get(f"{model}/config")
    assert config["max_batch_size"] > 0
    for ours, theirs in (("input", "inputs"), ("output", "outputs")):
        assert [one["name"] for one in config[ours]] == [one["name"] for one in metadata[theirs]]
        assert [[-1, *one["dims"]] for one in config[ours]] == [one["shape"] for one in metadata[theirs]]
    assert {"statistics", "model_configuration", "binary_tensor_data"} <= set(client.get("/v2")["extensions"])

    def counts() -> dict[str, int]:
        (one,) = client.get(f"{model}/stats")["model_stats"]
        int(one["version"])
        stats = one["inference_stats"]
        for name in ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"):
            assert min(stats[name]["count"], stats[name]["ns"]) >= 0
        return {"queue": stats["queue"]["count"], "rows": one["inference_count"], "batches": one["execution_count"]}

    def some(worker: int) -> None:
        own = Client(place.address)
        for number in range(25):
            name = f"{worker}-{number}"
            head = json.dumps({"id": name, "inputs": [{**INPUT, "parameters": {"binary_data_size": 3}}]}).encode()
            status, _, body = own.ask("POST", f"{model}/infer", head + b"abc", **{LENGTH: str(len(head))})
            assert (status, json.loads(body)["id"]) == (200, name)
        own.close()

    before = counts()
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(some, range(4)))
    after = counts()
    assert (after["queue"] - before["queue"], after["rows"] - before["rows"]) == (100, 100)
    assert 1 <= after["batches"] - before["batches"] <= 100


def test_the_header_length_may_come_with_a_body_of_json_alone(client: Client, place: Place) -> None:
    body = json.dumps({"inputs": [{**INPUT, "data": [1, 2, 3]}]}).encode()
    status, headers, answer = client.ask("POST", f"/v2/models/{place.echo}/infer", body, **{LENGTH: str(len(body))})
    assert (status, headers["content-type"], LENGTH.lower() in headers) == (200, "application/json", False)
    output = {"name": "output", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2, 3]}
    assert json.loads(answer) == {"model_name": place.echo, "model_version": "1", "outputs": [output]}


def test_an_answer_may_be_fetched_later(client: Client, place: Place) -> None:
    head = json.dumps(
        {"id": "mine", "inputs": [{**INPUT, "parameters": {"binary_data_size": 3}}],
         "parameters": {"binary_data_output": True}}
    ).encode()  # fmt: skip
    headers = {LENGTH: str(len(head)), "Prefer": "respond-async"}
    status, found, _ = client.ask("POST", f"/v2/models/{place.echo}/infer", head + b"abc", **headers)
    assert status == 202

    def fetched() -> tuple[dict[str, str], bytes] | None:
        status, headers, body = client.ask("GET", found["location"])
        return (headers, body) if status == 200 else None

    headers, body = eventually(fetched)
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers[LENGTH.lower()])
    assert (json.loads(body[:length])["id"], body[length:]) == ("mine", b"abc")


def test_a_key_runs_once(client: Client, place: Place) -> None:
    body = json.dumps({"inputs": [{**INPUT, "data": [1, 2, 3]}]}).encode()
    path, key = f"/v2/models/{place.echo}/infer", f"once-{place.echo}"
    found = [client.ask("POST", path, body, Idempotency_Key=key) for _ in range(2)]
    assert [status for status, _, _ in found] == [200, 200]
    assert found[0][1]["x-request-id"] == found[1][1]["x-request-id"]
    status, _, answer = client.ask("POST", path, body.replace(b"3]}", b"4]}"), Idempotency_Key=key)
    assert (status, list(json.loads(answer))) == (400, ["error"])


def test_both_ways_into_the_front_end_answer_alike(client: Client, place: Place) -> None:
    head = json.dumps({"inputs": [{**INPUT, "parameters": {"binary_data_size": 3}}]}).encode()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    answers = []
    for more in ({}, {}, {}, trace):  # the first is parsed, the next are known, the last never is
        status, headers, body = client.ask(
            "POST", f"/v2/models/{place.echo}/infer", head + b"abc", **{LENGTH: str(len(head)), **more}
        )
        headers.pop("x-request-id")
        answers.append((status, headers, body))
    assert answers == [answers[0]] * 4

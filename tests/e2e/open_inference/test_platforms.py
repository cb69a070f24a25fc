"""KServe's first protocol, SageMaker's paths and Vertex's, against a running stack."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from shared.redis.embedded import free_port
from tests.e2e.open_inference.conftest import Place
from tests.e2e.stack import Process, call
from tests.unit.consumer.models.picture_files import encoded

ROW = {"numbers": [1, 2, 3], "halves": [2, 4], "ids": [5, 6], "flags": [True], "texts": ["a"]}
OTHER = {**ROW, "ids": [7, 8], "texts": ["b"]}


def instances(place: Place, model: str, given: Any, **more: Any) -> tuple[int, Any]:
    body = json.dumps({"instances": given, **more}).encode()
    answer = call(f"{place.stack.url}/v1/models/{model}:predict", body, "application/json")
    return answer.status, answer.body


def test_instances_of_several_inputs(place: Place) -> None:
    row = {"doubled": [2, 4, 6], "halved": [1, 2], "total": [11], "inverse": [False], "upper": ["A"]}
    assert instances(place, place.mixed, [ROW, OTHER]) == (
        200,
        {"predictions": [row, {**row, "total": [15], "upper": ["B"]}]},
    )


def test_instances_of_one_input(place: Place) -> None:
    rows = [[1, 2, 3], [4, 5, 6]]
    assert instances(place, place.echo, rows) == (200, {"predictions": rows})
    assert instances(place, place.echo, [{"input": row} for row in rows]) == (200, {"predictions": rows})


def test_a_classifier_says_its_classes_for_each_instance(place: Place) -> None:
    reds = [[[[9, 0, 0]] * 8] * 8, [[[0, 9, 0]] * 8] * 8]
    status, body = instances(place, place.colours, reds, parameters={"top_k": 1})
    assert status == 200
    assert [[one["label"] for one in row] for row in body["predictions"]] == [["red"], ["green"]]


def test_many_rows_in_one_long_body(place: Place) -> None:
    picture = [[[n % 200, 0, 255] for n in range(8)] for _ in range(8)]
    status, body = instances(place, place.colours, [picture] * 8, parameters={"top_k": 1, "timeout_ms": 20000})
    assert (status, len(body["predictions"])) == (200, 8)
    long = [list(range(250)) * 200]
    assert instances(place, place.echo, long)[0] == 400  # its rows have no fixed shape
    status, body = instances(place, place.echo, [{"input": long[0]}])
    assert (status, body["predictions"]) == (200, long)


def test_a_picture(place: Place) -> None:
    picture = base64.b64encode(encoded(Image.new("RGB", (16, 16), "blue"))).decode()
    status, body = instances(place, place.colours, [{"b64": picture}])
    assert (status, body["predictions"][0][0]["label"]) == (200, "blue")
    assert instances(place, place.colours, [{"b64": picture}] * 2)[0] == 400


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "The body is empty"),
        (b"{", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "body: Expected 'object'"),
        (b'{"instances": ' + b"[" * 100_000, 400, "not valid JSON"),
        (b'{"instances": 5}', 400, "instances"),
        (b'{"instances": []}', 400, "There are no instances"),
        (b'{"instances": [[1, 2], [3]]}', 400, "instances"),
        (b'{"instances": [[1, 256]]}', 400, "instances"),
        (b'{"instances": [["a"]]}', 400, "instances"),
        (b'{"instances": [{"input": [1]}, {"other": [1]}]}', 400, "instances[1]"),
        (b'{"instances": [{"other": [1]}]}', 400, "The model has no input 'other'"),
        (b'{"instances": [[1]], "colour": 1}', 400, "unknown field 'colour'"),
        (b'{"instances": [[1]], "parameters": {"timeout_ms": 0}}', 400, "parameters.timeout_ms"),
        (b'{"instances": [[1]], "parameters": {"top_k": 0}}', 400, "parameters.top_k"),
        (b'{"instances": [{"b64": "AAAA"}]}', 400, "instances[0].b64"),
    ],
)
def test_what_is_wrong_is_said(place: Place, body: bytes, status: int, text: str) -> None:
    answer = call(f"{place.stack.url}/v1/models/{place.echo}:predict", body, "application/json")
    assert (answer.status, list(answer.body)) == (status, ["error"])
    assert text in answer.body["error"]


def test_a_model_that_there_is_not(place: Place) -> None:
    assert instances(place, "nobody", [[1]])[0] == 404


@pytest.fixture(scope="module")
def hosted(place: Place) -> Iterator[str]:
    """Another front end, as a platform starts it."""
    port = free_port()
    own = {
        "AIP_HTTP_PORT": str(port),
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
        "HEADRACE_DEFAULT_MODEL": place.echo,
    }
    process: Process = place.stack._start(["-m", "producer_api"], own)
    process.until("Serving on")
    yield f"http://127.0.0.1:{port}"
    process.terminate()


def test_the_paths_of_vertex(hosted: str) -> None:
    route = f"{hosted}/v1/endpoints/1/deployedModels/2"
    assert call(route).status == 200
    answer = call(f"{route}:predict", b'{"instances": [[1, 2]], "parameters": null}', "application/json")
    assert (answer.status, answer.body) == (200, {"predictions": [[1, 2]]})
    answer = call(f"{route}:predict", b'{"instances": []}', "application/json")
    assert (answer.status, answer.body) == (400, {"error": "instances: There are no instances."})


def test_the_paths_of_sagemaker(hosted: str) -> None:
    assert call(f"{hosted}/ping").status == 200
    answer = call(f"{hosted}/invocations", b"abc", "application/octet-stream")
    assert (answer.status, answer.body["outputs"][0]["data"]) == (200, [97, 98, 99])


def test_without_a_default_the_only_model_is_asked(place: Place) -> None:
    answer = call(f"{place.stack.url}/invocations", b"abc", "application/octet-stream")
    assert (answer.status, answer.body["error"]["code"]) == (404, "unknown_model")
    assert "HEADRACE_DEFAULT_MODEL" in answer.body["error"]["message"]

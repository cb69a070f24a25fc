"""The stock client `tritonclient.http`, unchanged, synchronous and asynchronous, against a running stack."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from ml_dtypes import bfloat16
from tritonclient.utils import InferenceServerException

from tests.e2e.open_inference.conftest import Place

NUMBERS = np.array([[0.5, 1, 2], [3, 4, 1e10]], np.float32)
HALVES = np.array([[1, 3], [-2, 65504]], np.float16)
IDS = np.array([[1, 2, 2**40], [4, 5, -6]], np.int64)
FLAGS = np.array([[True], [False]])
TEXTS = np.array([["straße".encode()], [b""]], np.object_)
ARRAYS: dict[str, Any] = {"numbers": NUMBERS, "halves": HALVES, "ids": IDS, "flags": FLAGS, "texts": TEXTS}
PIXELS = np.zeros((3, 8, 8, 3), np.uint8)
PIXELS[0, :, :, 0] = 200
PIXELS[1, :, :, 2] = 100
PIXELS[2, :, :, 1] = 50


@pytest.fixture
def client(place: Place) -> Iterator[Any]:
    """A synchronous client."""
    with triton.InferenceServerClient(place.address, concurrency=2) as one:
        yield one


def mixed_inputs(*, binary: bool = True) -> list[Any]:
    found = []
    for name, array in ARRAYS.items():
        kind = {"f4": "FP32", "f2": "FP16", "i8": "INT64", "b1": "BOOL"}.get(array.dtype.str[1:], "BYTES")
        found.append(triton.InferInput(name, list(array.shape), kind))
        found[-1].set_data_from_numpy(array, binary_data=binary)
    return found


def check_mixed(result: Any) -> None:
    assert np.array_equal(result.as_numpy("doubled"), NUMBERS * 2)
    assert np.array_equal(result.as_numpy("halved"), HALVES / 2)
    assert result.as_numpy("total").tolist() == [[3 + 2**40], [3]]
    assert result.as_numpy("inverse").tolist() == [[False], [True]]
    texts = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("upper").ravel()]
    assert texts == ["STRASSE", ""]


def pixels_input(datatype: str = "UINT8") -> Any:
    one = triton.InferInput("input", list(PIXELS.shape), datatype)
    one.set_data_from_numpy(PIXELS)
    return one


def bytes_input(data: bytes) -> Any:
    one = triton.InferInput("input", [1, len(data)], "UINT8")
    one.set_data_from_numpy(np.frombuffer(data, np.uint8).reshape(1, -1))
    return one


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_several_inputs_outputs_and_rows_of_every_kind(
    client: Any, place: Place, binary_in: bool, binary_out: bool | None
) -> None:
    names = ("upper", "doubled", "halved", "total", "inverse")
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    result = client.infer(place.mixed, mixed_inputs(binary=binary_in), outputs=outputs, request_id="one / 1")
    check_mixed(result)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("one / 1", place.mixed, "7")
    assert response["outputs"][0]["name"] == ("doubled" if outputs is None else "upper")
    assert all(("parameters" in one) is (binary_out is not False) for one in response["outputs"])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(client: Any, place: Place, algorithm: str) -> None:
    result = client.infer(
        place.mixed,
        mixed_inputs(),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    check_mixed(result)
    data = bytes(range(256)) * 4096
    result = client.infer(
        place.echo,
        [bytes_input(data)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert result.as_numpy("output").tobytes() == data


def test_bf16_is_widened(client: Any, place: Place) -> None:
    numbers, halves = NUMBERS.astype(bfloat16), np.array([[1, 2], [3, -4]], bfloat16)
    inputs = mixed_inputs()
    for index, (name, array) in enumerate((("numbers", numbers), ("halves", halves))):
        inputs[index] = triton.InferInput(name, list(array.shape), "BF16")
        inputs[index].set_data_from_numpy(array)
    result = client.infer(place.mixed, inputs)
    assert np.array_equal(result.as_numpy("doubled"), numbers.astype(np.float32) * 2)
    assert np.array_equal(result.as_numpy("halved"), halves.astype(np.float16) / 2)


def test_a_classifier_gives_its_logits(client: Any, place: Place) -> None:
    logits = client.infer(place.colours, [pixels_input()]).as_numpy("logits")
    assert logits.tolist() == [[200, 0, 0], [0, 0, 100], [0, 50, 0]]


@pytest.mark.parametrize("binary", [True, False])
def test_a_classifier_gives_labels_with_the_classification_extension(client: Any, place: Place, binary: bool) -> None:
    output = triton.InferRequestedOutput("logits", binary_data=binary, class_count=2)
    classes = client.infer(place.colours, [pixels_input()], outputs=[output]).as_numpy("logits")
    assert classes.shape == (3, 2)
    first = [one.decode() if isinstance(one, bytes) else one for one in classes[:, 0]]
    assert first == ["1.000000:0:red", "1.000000:2:blue", "1.000000:1:green"]


def test_what_the_server_and_its_models_are(client: Any, place: Place) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(place.mixed)
    assert client.is_model_ready(place.mixed, "7")
    assert not client.is_model_ready(place.mixed, "8")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "headrace"
    metadata = client.get_model_metadata(place.mixed, "7")
    assert metadata["versions"] == ["7"]
    assert metadata["inputs"][0] == {"name": "numbers", "datatype": "FP32", "shape": [-1, 3]}
    config = client.get_model_config(place.colours)
    assert config["output"][0]["name"] == client.get_model_metadata(place.colours)["outputs"][0]["name"] == "logits"
    assert (config["input"][0]["data_type"], config["input"][0]["dims"]) == ("TYPE_UINT8", [8, 8, 3])
    index = {one["name"]: (one["version"], one["state"]) for one in client.get_model_repository_index()}
    assert index[place.mixed] == ("7", "READY")


def test_statistics_grow_with_what_is_asked(client: Any, place: Place) -> None:
    def counted() -> Any:
        (found,) = client.get_inference_statistics(place.colours, "1")["model_stats"]
        return found

    before = counted()
    for _ in range(3):
        client.infer(place.colours, [pixels_input()])
    with pytest.raises(InferenceServerException):
        client.infer(place.colours, [bytes_input(b"abc")])
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 9
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    stats, earlier = after["inference_stats"], before["inference_stats"]
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert stats[name]["count"] - earlier[name]["count"] == 3
        assert stats[name]["ns"] >= earlier[name]["ns"]
    assert stats["success"]["ns"] > earlier["success"]["ns"]
    assert stats["fail"]["count"] - earlier["fail"]["count"] == 1
    names = {one["name"] for one in client.get_inference_statistics()["model_stats"]}
    assert {place.echo, place.mixed, place.colours} <= names


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"model_version": "3"}, "404", "no version '3'; it has 1"),
        ({"model_name": "nobody"}, "404", "There is no model 'nobody'"),
        ({"sequence_id": 5, "sequence_start": True}, "501", "A sequence of requests is not supported"),
        ({"parameters": {"colour": "red"}}, "400", "parameters: Object contains unknown field 'colour'"),
        ({"timeout": 10**12}, "400", "parameters.timeout: timeout must be at most"),
        ({"outputs": [triton.InferRequestedOutput("other")]}, "400", "outputs[0].name: The model has no output"),
        ({"outputs": [triton.InferRequestedOutput("output", class_count=1)]}, "400", "the model is no classifier"),
    ],
)
def test_refusals_say_what_is_wrong(client: Any, place: Place, change: Any, status: str, text: str) -> None:
    arguments = {"model_name": place.echo, "inputs": [bytes_input(b"abc")], **change}
    with pytest.raises(InferenceServerException) as caught:
        client.infer(**arguments)
    assert caught.value.status() == status
    assert text in caught.value.message()


@pytest.mark.parametrize("change", [{"model_version": "1"}, {"timeout": 5_000_000}, {"priority": 1}])
def test_options_that_there_are(client: Any, place: Place, change: Any) -> None:
    result = client.infer(place.echo, [bytes_input(b"abc")], **change)
    assert result.as_numpy("output").tobytes() == b"abc"


def test_extensions_that_there_are_not_are_told(client: Any) -> None:
    for call in (lambda: client.load_model("any"), client.get_system_shared_memory_status, client.get_log_settings):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "501"


def test_rows_of_one_request_come_back_as_rows(client: Any, place: Place) -> None:
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    one = triton.InferInput("input", [3, 4], "UINT8")
    one.set_data_from_numpy(rows)
    assert np.array_equal(client.infer(place.echo, [one]).as_numpy("output"), rows)


def test_many_at_once(client: Any, place: Place) -> None:
    waiting = [client.async_infer(place.echo, [bytes_input(b"%d" % n)], request_id=str(n)) for n in range(20)]
    for n, one in enumerate(waiting):
        result = one.get_result()
        assert (result.as_numpy("output").tobytes(), result.get_response()["id"]) == (b"%d" % n, str(n))


def test_the_asynchronous_client(place: Place) -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(place.address) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready(place.mixed, "7")
            assert (await client.get_server_metadata())["name"] == "headrace"
            assert (await client.get_model_metadata(place.mixed))["name"] == place.mixed
            assert (await client.get_model_config(place.mixed))["max_batch_size"] > 0
            results = await asyncio.gather(*(client.infer(place.mixed, mixed_inputs()) for _ in range(4)))
            for result in results:
                check_mixed(result)
            check_mixed(
                await client.infer(
                    place.mixed,
                    mixed_inputs(binary=False),
                    request_compression_algorithm="gzip",
                    response_compression_algorithm="deflate",
                )
            )
            assert (await client.get_inference_statistics(place.mixed))["model_stats"][0]["inference_count"] >= 10
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(place.mixed, mixed_inputs(), model_version="9")
            assert caught.value.status() == "404"

    asyncio.run(ask())

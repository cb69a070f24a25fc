"""Stock clients, unchanged, against a running stack."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as sync
import tritonclient.grpc.aio as aio

from .site import COLOURS, ECHO, MIXED, Site, echoed, several


def test_is_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(ECHO)
    assert not client.is_model_ready("grpc-nothing")


def test_answers_with_what_it_was_sent(client: Any) -> None:
    answer = client.infer(ECHO, [echoed(1, 2, 255)], request_id="mine/1")
    np.testing.assert_array_equal(answer.as_numpy("output"), [[1, 2, 255]])
    said = answer.get_response()
    assert (said.id, said.model_name) == ("mine/1", ECHO)


def test_several_inputs_and_outputs_and_rows(client: Any) -> None:
    answer = client.infer(MIXED, several(3))
    np.testing.assert_array_equal(answer.as_numpy("sum"), np.arange(6, dtype=np.float32).reshape(3, 2) + 0.5)
    np.testing.assert_array_equal(answer.as_numpy("double"), np.ones((3, 2), np.float16))
    np.testing.assert_array_equal(answer.as_numpy("count"), [3, 3, 3])
    assert answer.as_numpy("shouted").tolist() == [[f"größe {row}".encode().upper()] for row in range(3)]


def test_outputs_come_in_the_order_in_which_they_are_asked_for(client: Any) -> None:
    wanted = [sync.InferRequestedOutput("count"), sync.InferRequestedOutput("sum")]
    answer = client.infer(MIXED, several(), outputs=wanted).get_response()
    assert [one.name for one in answer.outputs] == ["count", "sum"]


def test_bf16_is_widened_to_what_the_model_takes(client: Any) -> None:
    inputs = several(1)
    inputs[0] = sync.InferInput("single", [1, 2], "BF16")
    inputs[0].set_data_from_numpy(np.array([[1.5, -2]], ml_dtypes.bfloat16))
    answer = client.infer(MIXED, inputs)
    np.testing.assert_array_equal(answer.as_numpy("sum"), np.array([[2, -1.5]], np.float32))


def test_the_asynchronous_client(served: Site) -> None:
    async def ask() -> list[Any]:
        async with aio.InferenceServerClient(served.target) as client:
            assert await client.is_server_ready()
            return await asyncio.gather(*(client.infer(ECHO, [echoed(value)]) for value in range(50)))

    answers = asyncio.run(ask())
    assert [one.as_numpy("output").tolist() for one in answers] == [[[value]] for value in range(50)]


def test_calls_with_a_callback(client: Any) -> None:
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for value in range(20):
        client.async_infer(
            ECHO, [echoed(value)], lambda result, error: came.put((result, error)), request_id=str(value)
        )
    found = [came.get(timeout=20) for _ in range(20)]
    assert [error for _, error in found] == [None] * 20
    assert {one.get_response().id: one.as_numpy("output")[0][0] for one, _ in found} == {str(n): n for n in range(20)}


def test_a_stream_answers_in_order_and_outlives_errors(client: Any) -> None:
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.start_stream(lambda result, error: came.put((result, error)))
    for value in range(200):
        client.async_stream_infer(ECHO if value % 50 != 10 else "grpc-nothing", [echoed(value)], request_id=str(value))
    found = [came.get(timeout=20) for _ in range(200)]
    client.stop_stream()
    for value, (result, error) in enumerate(found):
        if value % 50 == 10:
            assert "There is no model 'grpc-nothing'" in str(error)
        else:
            assert result.get_response().id == str(value)
            assert result.as_numpy("output").tolist() == [[value]]


def test_a_compressed_request(client: Any) -> None:
    for algorithm in ("gzip", "deflate"):
        answer = client.infer(ECHO, [echoed(*[7] * 5000)], compression_algorithm=algorithm)
        assert answer.as_numpy("output").tolist() == [[7] * 5000]


def test_a_classifier_answers_with_scores_or_with_classes(client: Any) -> None:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0, ..., 0], pixels[1, ..., 2] = 200, 100
    [spec] = client.get_model_metadata(COLOURS).outputs
    picture = sync.InferInput(client.get_model_metadata(COLOURS).inputs[0].name, [2, 8, 8, 3], "UINT8")
    picture.set_data_from_numpy(pixels)
    assert client.infer(COLOURS, [picture]).as_numpy(spec.name).tolist() == [[200, 0, 0], [0, 0, 100]]
    wanted = sync.InferRequestedOutput(spec.name, class_count=2)
    classes = client.infer(COLOURS, [picture], outputs=[wanted]).as_numpy(spec.name)
    assert classes.shape == (2, 2)
    assert [one.decode() for one in classes[:, 0]] == ["1.000000:0:red", "1.000000:2:blue"]

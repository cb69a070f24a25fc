from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consumer.models.base import RAW
from consumer.models.echo import Echo
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import INVALID_INPUT, UNSUPPORTED_MEDIA_TYPE, RequestError


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 40])
def test_bytes_come_back(body: bytes) -> None:
    echo, request = Echo(), Request("a", 1000, content_type=RAW, body=body)
    result = echo.postprocess(echo.run(echo.preprocess(request)), request)
    assert result.outputs == (Tensor("output", "UINT8", (1, len(body)), body),)
    assert not echo.decodes(request)


def test_a_tensor_of_any_datatype_comes_back_as_bytes() -> None:
    echo = Echo()
    request = Request("a", 1000, inputs=(Tensor("x", "FP32", (2,), b"\x00\x00\x80?\x00\x00\x00@"),))
    result = echo.postprocess(echo.run(echo.preprocess(request)), request)
    assert result.outputs == (Tensor("output", "UINT8", (1, 8), b"\x00\x00\x80?\x00\x00\x00@"),)


def test_two_inputs_and_other_content_types_are_refused() -> None:
    tensor = Tensor("x", "UINT8", (1,), b"a")
    with pytest.raises(RequestError) as caught:
        Echo().preprocess(Request("a", 1000, inputs=(tensor, tensor)))
    assert (caught.value.outcome, caught.value.field) == (INVALID_INPUT, "inputs")
    with pytest.raises(RequestError) as caught:
        Echo().preprocess(Request("a", 1000, content_type="image/jpeg", body=b"a"))
    assert caught.value.outcome is UNSUPPORTED_MEDIA_TYPE


def test_echo_needs_neither_torch_nor_numpy() -> None:
    program = (
        "import sys\n"
        "from consumer.models.families import build\n"
        "from shared.model_config import ModelConfig\n"
        "model = build('echo', ModelConfig(family='echo'))\n"
        "model.load('cpu', 'fp32')\n"
        "model.run(model.sample_rows(3))\n"
        "print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shape", [(3, 2), (1, 6), (6,)])
def test_each_row_of_an_input_comes_back(shape: tuple[int, ...]) -> None:
    echo, request = Echo(), Request("a", 1000, inputs=(Tensor("x", "UINT8", shape, b"abcdef"),))
    rows = 3 if shape == (3, 2) else 1
    result = echo.postprocess(echo.run(echo.preprocess(request)), request)
    assert result.outputs == (Tensor("output", "UINT8", (rows, 6 // rows), b"abcdef"),)

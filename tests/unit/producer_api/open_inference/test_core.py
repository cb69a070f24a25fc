"""Tensors to messages and replies to tensors, as REST and gRPC have them in common."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from ml_dtypes import bfloat16

from producer_api.inference.open_inference import core
from producer_api.inference.open_inference.core import Asked, Wanted
from producer_api.parsing.bf16 import widen_in_steps
from producer_api.parsing.schemas import BinaryTensor, InputTensor
from producer_api.parsing.steps import at_once
from shared.state.cards import PREDICTIONS, TENSORS, Card, TensorSpec
from shared.wire.messages import ModelTag, Prediction, Reply, Request, Tensor, Timing
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, NO_WORKER, RequestError
from tests.fakes import CLASSIFIER, ECHO, LABELS, card

TAG = ModelTag("m", "1", "fp32")


def changed(one: Card, **values: Any) -> Card:
    return msgspec.structs.replace(one, **values)


NEW = changed(CLASSIFIER, outputs=(TensorSpec("logits", "FP32", (4,)),), answers=(PREDICTIONS, TENSORS), family="timm")
OLD = changed(NEW, answers=())
OWN = changed(NEW, answers=(PREDICTIONS,), family="python")
TWO = card("two", [TensorSpec("a", "FP32", (2,)), TensorSpec("b", "BYTES", (1,))])
PIXELS = BinaryTensor("image", [2, 4, 4, 3], "UINT8", bytes(96))


@dataclass
class Made:
    request: Request
    rows: int
    needs_tensors: bool


def made(inputs: list[InputTensor | BinaryTensor], one: Card, *wanted: Wanted) -> Made:
    outputs = core.check_outputs(wanted, one)
    return Made(*at_once(core.request_in_steps(inputs, outputs, one, 500, "id", None)))


def refusal(inputs: list[InputTensor | BinaryTensor], one: Card, *wanted: Wanted) -> tuple[Any, str | None]:
    with pytest.raises(RequestError) as caught:
        made(inputs, one, *wanted)
    return caught.value.outcome, caught.value.field


def test_a_classifier_is_asked_for_its_logits() -> None:
    found = made([PIXELS], NEW)
    assert (found.rows, found.needs_tensors) == (2, True)
    assert found.request == Request("id", 500, core.RAW, bytes(96), params={"answer": "tensors"})


@pytest.mark.parametrize("one", [NEW, OLD])
def test_classes_need_no_consumer_that_knows_of_tensors(one: Card) -> None:
    found = made([PIXELS], one, Wanted("logits", classes=3))
    assert (found.needs_tensors, found.request.params) == (False, {"top_k": 3})
    assert made([PIXELS], one, Wanted("logits", classes=1000)).request.params == {"top_k": len(LABELS)}


def test_consumers_of_an_older_version_are_not_asked_for_logits() -> None:
    assert refusal([PIXELS], OLD) == (NO_WORKER, None)


def test_a_classifier_of_your_own_offers_its_classes() -> None:
    assert core.offered(OWN) == (TensorSpec("classification", "BYTES", (-1,)),)
    found = made([PIXELS], OWN)
    assert (found.needs_tensors, found.request.params, found.request.body) == (False, {}, None)
    assert found.request.inputs == (Tensor("image", "UINT8", (2, 4, 4, 3), bytes(96)),)


def test_several_inputs_keep_the_order_of_the_card() -> None:
    texts = BinaryTensor("b", [2, 1], "BYTES", b"\x01\0\0\0x\0\0\0\0")
    numbers = msgspec.convert(
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": msgspec.Raw(b"[1, 2, 3, 4]")}, InputTensor
    )
    found = made([texts, numbers], TWO)
    assert found.rows == 2
    assert found.request.inputs == (
        Tensor("a", "FP32", (2, 2), struct.pack("<4f", 1, 2, 3, 4)),
        Tensor("b", "BYTES", (2, 1), texts.data),
    )


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([], "inputs"),
        ([PIXELS] * 65, "inputs"),
        ([BinaryTensor("input", [1, 2], "UINT8", b"abc")], "inputs[0].data"),
        ([BinaryTensor("input", [1 << 30, 1 << 30], "UINT8", b"abc")], "inputs[0].shape"),
        ([BinaryTensor("input", [1, 0], "UINT8", b"")], "inputs[0].shape"),
        ([BinaryTensor("input", [1, 1], "BF16", b"ab")], "inputs[0].datatype"),
        ([BinaryTensor("other", [1, 1], "UINT8", b"a")], "inputs[0].name"),
    ],
)
def test_what_does_not_fit_is_refused(inputs: list[Any], field: str) -> None:
    assert refusal(inputs, ECHO) == (INVALID_INPUT, field)


@pytest.mark.parametrize("data", [b"\x05\0\0\0x", b"\xff\xff\xff\xff", b"\x01\0\0", b"", b"\0\0\0\0\0\0\0\0"])
def test_elements_that_do_not_fill_their_tensor_are_refused(data: bytes) -> None:
    numbers = BinaryTensor("a", [1, 2], "FP32", bytes(8))
    assert refusal([numbers, BinaryTensor("b", [1, 1], "BYTES", data)], TWO) == (INVALID_INPUT, "inputs[1].data")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ([Wanted("other")], "outputs[0].name"),
        ([Wanted("logits"), Wanted("logits")], "outputs[1].name"),
        ([Wanted("logits", classes=-1)], "outputs[0].parameters.classification"),
    ],
)
def test_outputs_that_there_are_not_are_refused(wanted: list[Wanted], field: str) -> None:
    assert refusal([PIXELS], NEW, *wanted) == (INVALID_INPUT, field)


def test_only_a_classifier_has_classes() -> None:
    tensor = BinaryTensor("input", [1, 1], "UINT8", b"a")
    assert refusal([tensor], ECHO, Wanted("output", classes=1)) == (
        INVALID_INPUT,
        "outputs[0].parameters.classification",
    )


def test_bf16_becomes_what_the_model_takes() -> None:
    numbers = np.array([0.0, 1.0, -2.5, 3.140625, 1e-3, 60000.0], dtype=bfloat16)
    for datatype, width in (("FP32", "<f4"), ("FP16", "<f2")):
        one = card("m", [TensorSpec("x", datatype, (6,))])
        found = made([BinaryTensor("x", [1, 6], "BF16", numbers.tobytes())], one)
        assert found.request.inputs is not None
        assert found.request.inputs[0] == Tensor("x", datatype, (1, 6), numbers.astype(width).tobytes())


def test_long_bf16_is_widened_in_steps() -> None:
    numbers = np.arange(100_000, dtype=np.float32).astype(bfloat16)
    steps = widen_in_steps(numbers.tobytes(), "FP32")
    assert next(steps) is None
    assert at_once(steps)[-4:] == numbers[-1:].astype("<f4").tobytes()


@pytest.mark.parametrize(("number", "datatype"), [(1e6, "FP16"), (math.inf, "FP32"), (math.nan, "FP16")])
def test_bf16_that_the_model_cannot_take_is_refused(number: float, datatype: str) -> None:
    data = np.array([number], dtype=bfloat16).tobytes()
    one = card("m", [TensorSpec("x", datatype, (1,))])
    assert refusal([BinaryTensor("x", [1, 1], "BF16", data)], one) == (INVALID_INPUT, "inputs[0].data")
    assert refusal([BinaryTensor("x", [1, 1], "BF16", data + b"x")], one) == (INVALID_INPUT, "inputs[0].data")


def test_outputs_come_in_the_order_in_which_they_were_asked_for() -> None:
    first, second = Tensor("a", "FP32", (1, 1), bytes(4)), Tensor("b", "FP32", (1, 1), bytes(4))
    reply = Reply("id", TAG, Timing(), outputs=[first, second])
    assert core.tensors_of(reply, Asked((Wanted("b"), Wanted("a")), False, 1)) == [second, first]
    assert core.tensors_of(reply, Asked((Wanted("b"),), False, 1)) == [second]
    with pytest.raises(RequestError) as caught:
        core.tensors_of(reply, Asked((Wanted("c"),), False, 1))
    assert caught.value.outcome is MODEL_ERROR


def test_classes_are_texts_side_by_side() -> None:
    some = [Prediction("tench", 0, 0.75), Prediction("cat", 2, 0.25), Prediction("dog", 3, 1.0, 1)]
    (found,) = core.tensors_of(Reply("id", TAG, Timing(), predictions=some), Asked((Wanted("logits", 2),), False, 2))
    assert (found.name, found.datatype, found.shape) == ("logits", "BYTES", (2, 2))
    texts = [b"0.750000:0:tench", b"0.250000:2:cat", b"1.000000:3:dog", b""]
    assert found.data == b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@pytest.mark.parametrize(
    "asked", [Asked((Wanted("logits"),), True, 1), Asked((Wanted("logits", 1),), False, 1, version="2")]
)
def test_an_answer_of_another_version_is_no_answer(asked: Asked) -> None:
    reply = Reply("id", TAG, Timing(), predictions=[Prediction("cat", 2, 1.0)])
    with pytest.raises(RequestError) as caught:
        core.tensors_of(reply, asked)
    assert caught.value.outcome is NO_WORKER

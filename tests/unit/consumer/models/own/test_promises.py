"""Answers of a model of the user's own: what is plainly meant is taken, everything else is refused by name."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from consumer.models.base import Description, Result
from consumer.models.echo import Echo
from consumer.models.own.promises import AnswerCheck
from shared.state.cards import ITEM_BYTES, TensorSpec
from shared.wire import fast
from shared.wire.messages import ModelTag, Prediction, Reply, Request, Tensor, Timing, decode_reply, encode_reply
from shared.wire.outcomes import MODEL_ERROR, RequestError

NUMBERS = AnswerCheck(Description((), (TensorSpec("y", "FP32", (4,)),)))
TEXTS = AnswerCheck(Description((), (TensorSpec("t", "BYTES", (-1,)),)))
TWO = AnswerCheck(Description((), (TensorSpec("a", "INT64", ()), TensorSpec("b", "UINT8", (-1, 2)))))
LABELLED = AnswerCheck(Description((), (), labels=("cat", "dog")))
Y = np.arange(4, dtype=np.float32)[None]
DATA = Y.tobytes()


def y(data: Any = DATA, *, name: Any = "y", datatype: Any = "FP32", shape: Any = (1, 4)) -> Result:
    return Result(outputs=[Tensor(name, datatype, shape, data)])


def guess(label: Any, index: Any, score: Any, row: Any = 0) -> Prediction:
    return Prediction(label, index, score, row)


def sentence(check: AnswerCheck, result: Any, rows: int = 1) -> str:
    """What an answer is refused with."""
    with pytest.raises(RequestError) as caught:
        check(result, rows)
    assert caught.value.outcome is MODEL_ERROR
    message = caught.value.message
    assert message.startswith("The model's answer is wrong: ")
    assert message.endswith(".")
    assert message.count(". ") == 0, "one sentence"
    return message


STRIDED = np.arange(8, dtype=np.float32)[::2][None]
TRANSPOSED = np.arange(4, dtype=np.float32).reshape(4, 1).T


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (Y.tobytes(), [0, 1, 2, 3]),
        (bytearray(Y.tobytes()), [0, 1, 2, 3]),
        (memoryview(Y.tobytes()), [0, 1, 2, 3]),
        (Y, [0, 1, 2, 3]),
        (Y.data, [0, 1, 2, 3]),
        (Y[0], [0, 1, 2, 3]),
        (Y.astype(">f4"), [0, 1, 2, 3]),
        (STRIDED, [0, 2, 4, 6]),
        (STRIDED.data, [0, 2, 4, 6]),
        (STRIDED.astype(">f4")[:, ::-1], [6, 4, 2, 0]),
        (TRANSPOSED, [0, 1, 2, 3]),
        (torch.arange(4.0)[None], [0, 1, 2, 3]),
        (torch.arange(4.0, requires_grad=True)[None], [0, 1, 2, 3]),
        (torch.arange(8.0)[::2], [0, 2, 4, 6]),
    ],
)
def test_numbers_are_taken_as_what_they_are(data: Any, expected: list[float]) -> None:
    result = NUMBERS(y(data), 1)
    assert result.outputs is not None
    [tensor] = result.outputs
    assert type(tensor.data) is bytes
    assert np.frombuffer(tensor.data, "<f4").tolist() == expected


@pytest.mark.parametrize(
    "shape", [(1, 4), [1, 4], np.array([1, 4]), tuple(np.array([1, 4])), torch.Size((1, 4)), iter((1, 4))]
)
def test_shapes_are_taken_as_what_they_are(shape: Any) -> None:
    result = NUMBERS(y(shape=shape), 1)
    assert result.outputs is not None
    assert result.outputs[0].shape == (1, 4)
    assert [type(size) for size in result.outputs[0].shape] == [int, int]


@pytest.mark.parametrize("datatype", ITEM_BYTES)
@pytest.mark.parametrize("order", "<>")
def test_every_datatype_comes_out_little_endian(datatype: str, order: str) -> None:
    code = {"BOOL": "?", "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype)
    code = code or f"{'u' if datatype.startswith('U') else 'i'}{ITEM_BYTES[datatype]}"
    values = np.array([0, 1, 100], dtype=order + code)
    check = AnswerCheck(Description((), (TensorSpec("x", datatype, (3,)),)))
    result = check(Result(outputs=[Tensor("x", datatype, (1, 3), values)]), 1)  # type: ignore[arg-type]
    assert result.outputs is not None
    assert result.outputs[0].data == values.astype("<" + code).tobytes()


@pytest.mark.parametrize("outputs", [tuple, list, iter, deque, lambda found: (one for one in found)])
def test_outputs_may_be_any_sequence_or_a_generator_in_any_order(outputs: Any) -> None:
    tensors = [Tensor("b", "UINT8", (2, 0, 2), b""), Tensor("a", "INT64", (2,), bytes(16))]
    result = TWO(Result(outputs=outputs(tensors)), 2)
    assert result.outputs is not None
    assert list(result.outputs) == tensors


def length(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize(
    ("data", "shape", "expected"),
    [
        (length(b"one") + length(b""), (1, 2), length(b"one") + length(b"")),
        (["one", b"\xff"], (1, 2), length(b"one") + length(b"\xff")),
        (np.array([["é"], ["b"]]), (2, 1), length("é".encode()) + length(b"b")),
        (np.array(["a", b"b"], dtype=object), (1, 2), length(b"a") + length(b"b")),
        ((text for text in ("a", "b")), (1, 2), length(b"a") + length(b"b")),
        (b"", (1, 0), b""),
    ],
)
def test_texts_are_packed_with_their_lengths(data: Any, shape: tuple[int, ...], expected: bytes) -> None:
    result = TEXTS(Result(outputs=[Tensor("t", "BYTES", shape, data)]), shape[0])
    assert result.outputs is not None
    assert result.outputs[0].data == expected


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "must return a Result, not None"),
        ({"y": [1, 2]}, "must return a Result, not a dict"),
        (Result, "must return a Result, not a type"),
        (Result(), "either predictions or outputs"),
        (Result(predictions=[Prediction("a", 1, 0.5)], outputs=y().outputs), "not both"),
        (Result(outputs=()), "output y is missing"),
        (Result(outputs={"y": Y}), "sequence of Tensors, not a dict"),  # type: ignore[arg-type]
        (Result(outputs="y"), "sequence of Tensors, not a str"),  # type: ignore[arg-type]
        (Result(outputs=[Y]), r"outputs[0] must be a Tensor, not a ndarray"),  # type: ignore[list-item]
        (Result(outputs=[*(y().outputs or ()), *(y().outputs or ())]), "output y is there twice"),
        (y(name="z"), "describes no output z (it describes y)"),
        (y(name=None), "describes no output None"),
        (y(name=[]), "describes no output a list"),
        (y(datatype="float32"), "output y is described as FP32, but its datatype is float32"),
        (y(datatype=np.float32), "output y is described as FP32, but its datatype is a type"),
        (y(datatype="INT64", shape=(1, 2), data=bytes(16)), "output y is described as FP32"),
        (y(Y.astype(np.float64).tobytes()), "output y holds 32 bytes, but the shape [1, 4] of FP32 takes 16"),
        (y(Y.tobytes()[:6]), "output y holds 6 bytes"),
        (y(Y.astype(np.float64)), "output y is described as FP32, but its data are FP64"),
        (y(Y.astype(np.int32)), "its data are INT32"),
        (y(Y.astype(np.complex64)), "its data are nothing we know"),
        (y(np.array(["a"] * 4)), "its data are nothing we know"),
        (y(np.array([None] * 4)), "its data are nothing we know"),
        (y(np.float32(3)), "output y holds 4 bytes"),
        (y(np.array(3, np.float32)), "output y holds 4 bytes"),
        (y([0.0, 1.0, 2.0, 3.0]), "the data of output y must be bytes or an array of FP32, not a list"),
        (y(None), "the data of output y must be bytes or an array of FP32, not None"),
        (y("abcd" * 4), "not a str"),
        (
            y(torch.zeros(4, dtype=torch.bfloat16)),
            "the data of output y must be bytes or an array",
        ),
        (y(np.zeros(4, "datetime64[s]")), "the data of output y must be bytes or an array"),
        (y(shape=(4,)), "output y has the shape [4], not [1, 4]"),
        (y(shape=(2, 4), data=bytes(32)), "output y has the shape [2, 4], not [1, 4]"),
        (y(shape=(1, 2, 2)), "output y has the shape [1, 2, 2], not [1, 4]"),
        (y(shape=(1, -4)), "output y has the shape [1, -4]"),
        (y(shape=(1, 4.0)), "the shape of output y must be whole numbers"),
        (y(shape=None), "the shape of output y must be whole numbers, not None"),
        (y(shape=4), "the shape of output y must be whole numbers, not an int"),
        (y(shape="14"), "the shape of output y must be whole numbers, not a str"),
    ],
)
def test_what_is_not_as_described_is_refused_by_name(result: Any, says: str) -> None:
    assert says in sentence(NUMBERS, result)


@pytest.mark.parametrize("data", [b"hello", length(b"a")[:-1], length(b"a") * 2, b"", ["a", "b"], length(b"a") + b"x"])
def test_texts_without_their_lengths_are_refused(data: Any) -> None:
    assert "output t must hold 1 elements" in sentence(TEXTS, Result(outputs=[Tensor("t", "BYTES", (1, 1), data)]))


@pytest.mark.parametrize("data", [[1], [None], "ab", {"a": 1}, 5, None])
def test_what_is_no_text_is_refused(data: Any) -> None:
    assert "the data of output t" in sentence(TEXTS, Result(outputs=[Tensor("t", "BYTES", (1, 1), data)]))


def test_texts_and_predictions_without_an_end_are_not_waited_for() -> None:
    looked = iter(range(10))
    texts: Any = (f"text {next(looked)}" for _ in itertools.count())
    assert "output t must hold 2 elements" in sentence(TEXTS, Result(outputs=[Tensor("t", "BYTES", (1, 2), texts)]))
    assert next(looked) == 3, "one more than it should be"
    endless = itertools.repeat(guess("a", 1, 0.5))
    assert "more than 1,000,000 predictions" in sentence(NUMBERS, Result(predictions=endless))  # type: ignore[arg-type]


def test_rows_that_are_missing_are_noticed() -> None:
    result = Result(outputs=[Tensor("a", "INT64", (1,), bytes(8)), Tensor("b", "UINT8", (2, 1, 2), bytes(4))])
    assert "output a has the shape [1], not [2]" in sentence(TWO, result, rows=2)


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction("a", 1, 0.5),
        Prediction(np.str_("a"), np.int64(1), np.float32(0.5), np.int8(0)),  # type: ignore[arg-type]
        Prediction("a", torch.tensor(1), torch.tensor(0.5)),  # type: ignore[arg-type]
        Prediction("a", np.array(1), np.array(0.5)),  # type: ignore[arg-type]
        Prediction("a", True, True),
    ],
)
def test_numbers_of_other_libraries_become_plain(prediction: Prediction) -> None:
    result = NUMBERS(Result(predictions=(one for one in [prediction])), 1)  # type: ignore[arg-type]
    assert result.predictions is not None
    [found] = result.predictions
    assert (type(found.label), type(found.index), type(found.score), type(found.row)) == (str, int, float, int)
    assert (found.label, found.index, found.row) == ("a", 1, 0)


@pytest.mark.parametrize(
    ("predictions", "says"),
    [
        ([], "no predictions"),
        ({}, "sequence of Predictions, not a dict"),
        ([("a", 1, 0.5)], "predictions[0] must be a Prediction, not a tuple"),
        ([guess("a", 1, 0.5), {"label": "a"}], "predictions[1] must be a Prediction, not a dict"),
        ([guess(b"a", 1, 0.5)], "predictions[0].label must be text, not a bytes"),
        ([guess(None, 1, 0.5)], "predictions[0].label must be text, not None"),
        ([guess("a", 1.0, 0.5)], "predictions[0].index must be a whole number, not a float"),
        ([guess("a", 1 << 63, 0.5)], "predictions[0].index"),
        ([guess("a", 1, "0.5")], "predictions[0].score must be a number, not a str"),
        ([guess("a", 1, None)], "predictions[0].score must be a number, not None"),
        ([guess("a", 1, np.zeros(2))], "predictions[0].score must be a number, not a ndarray"),
        ([guess("a", 1, 0.5, 1)], "predictions[0].row must be a row of the request, from 0 to 0"),
        ([guess("a", 1, 0.5, -1)], "predictions[0].row"),
        ([guess("a", 1, 0.5, None)], "predictions[0].row"),
    ],
)
def test_predictions_that_are_none_are_refused_by_name(predictions: Any, says: str) -> None:
    assert says in sentence(NUMBERS, Result(predictions=predictions))


def test_a_label_is_one_of_those_described() -> None:
    assert LABELLED(Result(predictions=[Prediction("dog", 1, 0.5)]), 1).predictions
    assert "predictions[0].label" in sentence(LABELLED, Result(predictions=[Prediction("cow", 2, 0.5)]))


def test_numbers_that_are_not_finite_are_answers() -> None:
    values = np.array([1, np.nan, np.inf, -np.inf], "f4")
    result = NUMBERS(y(values), 1)
    assert result.outputs is not None
    assert result.outputs[0].data == values.tobytes()


def test_what_passes_is_what_a_reader_takes() -> None:
    """Both coders, the quick one and the careful one."""
    result = NUMBERS(y(STRIDED.astype(">f4"), shape=np.array([1, 4])), 1)
    reply = Reply("i", ModelTag("m", "1", "fp32"), Timing(), outputs=result.outputs)
    for message in (encode_reply(reply), fast.encode_reply(reply)):
        for decoded in (decode_reply(message), fast.decode_reply(message)):
            assert decoded.outputs == [Tensor("y", "FP32", (1, 4), np.array([0, 2, 4, 6], "<f4").tobytes())]


@pytest.mark.parametrize("bodies", [[b""], [b"hello"], [b"ab", b"cd", b"ef"]])
def test_what_echo_answers_would_pass(bodies: list[bytes]) -> None:
    """The shipped families are not checked while they serve: they cost nothing, and are held to it here."""
    echo = Echo()
    check = AnswerCheck(echo.describe())
    for body in bodies:
        request = Request("i", 1000, "application/octet-stream", body)
        assert check(echo.postprocess(echo.run(echo.preprocess(request)), request), 1).outputs
    request = Request("i", 1000, "application/octet-stream", b"")
    if len({len(body) for body in bodies}) == 1:
        assert check(echo.postprocess(echo.run(bodies), request), len(bodies)).outputs

"""Examples: declared in short forms, made of sample rows, and shown as a client may send them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import pytest

from consumer.models.base import RAW, Description
from consumer.models.own import examples
from consumer.models.own.inputs import arrays
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

IDS, MASK, TEXT = TensorSpec("ids", "INT64", (-1,)), TensorSpec("mask", "FP32", (-1,)), TensorSpec("text", "BYTES", ())


def described(*inputs: TensorSpec, types: tuple[str, ...] = ()) -> Description:
    return Description(inputs, (), types)


def shown(request: Request | None) -> Any:
    """The inputs of what a client would send."""
    assert request is not None
    example = examples.published(request)
    assert example is not None
    assert example.content_type == "application/json"
    return json.loads(example.body)["inputs"]


@pytest.mark.parametrize(
    ("spec", "value", "shape", "data"),
    [
        (IDS, [1, 2, 3], [1, 3], [1, 2, 3]),
        (IDS, [[1, 2], [3, 4]], [2, 2], [1, 2, 3, 4]),
        (MASK, np.array([0.1, 0.5], np.float64), [1, 2], [0.1, 0.5]),
        (TensorSpec("x", "FP16", (2,)), [0.1, 1], [1, 2], [0.1, 1.0]),
        (TensorSpec("x", "BOOL", (2,)), [True, False], [1, 2], [True, False]),
        (TensorSpec("x", "FP32", (1,)), 2.5, [1, 1], [2.5]),
        (TensorSpec("x", "INT8", ()), -3, [1], [-3]),
        (TEXT, "schön", [1], ["schön"]),
        (TEXT, ["a", "b"], [2], ["a", "b"]),
        (TensorSpec("text", "BYTES", (1,)), "a", [1, 1], ["a"]),
        (TensorSpec("text", "BYTES", (1,)), ["a"], [1, 1], ["a"]),
    ],
)
def test_a_value_becomes_a_tensor_that_a_client_may_send(
    spec: TensorSpec, value: Any, shape: list[int], data: list[Any]
) -> None:
    request = examples.declared({spec.name: value}, described(spec))
    assert shown(request) == [{"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}]
    assert arrays(request, [spec])[spec.name].shape == tuple(shape)


def test_short_forms_of_a_declared_example() -> None:
    assert shown(examples.declared("hello", described(TEXT)))[0]["data"] == ["hello"]
    body = examples.declared(b"\x01", described(IDS, types=("image/png",)))
    assert (body.content_type, body.body) == ("image/png", b"\x01")
    assert examples.declared("hello", described(IDS, types=(RAW,))).body == b"hello"
    request = Request("mine", 1000, RAW, b"x")
    assert examples.declared(request, described(IDS)) is request


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ids": [1]}, "the inputs are ids, mask"),
        ({"ids": [1], "mask": [1], "more": [1]}, "the inputs are ids, mask"),
        ({"ids": [[[1]]], "mask": [1]}, "input ids has the shape [1, 1, 1], not [-1]"),
        (7, "must return a text, bytes, a mapping"),
        ("text", "no content type"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_in_one_sentence(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        examples.declared(given, described(IDS, MASK))


@pytest.mark.parametrize(
    ("row", "specs", "names"),
    [
        ((np.ones(3, np.int64), np.ones(3, np.float32)), (IDS, MASK), ["ids", "mask"]),
        ({"mask": [1.0], "ids": [2]}, (IDS, MASK), ["ids", "mask"]),
        (np.ones(3, np.int32), (IDS,), ["ids"]),
        ([1, 2], (IDS,), ["ids"]),
        ("a text", (TEXT,), ["text"]),
        (b"a text", (TEXT,), ["text"]),
    ],
)
def test_a_sample_row_that_looks_like_the_inputs_becomes_a_request(
    row: Any, specs: tuple[TensorSpec, ...], names: list[str]
) -> None:
    assert [one["name"] for one in shown(examples.guessed(row, described(*specs)))] == names


@pytest.mark.parametrize(
    ("row", "specs"),
    [
        (np.ones(3, np.float32), (IDS,)),  # fractions are no ids
        (np.ones((3, 3, 3)), (IDS,)),
        ((1, 2, 3), (IDS, MASK)),
        ({"other": 1}, (IDS, MASK)),
        (object(), (IDS,)),
        (None, (IDS,)),
        ("text", (IDS,)),
        (np.zeros(examples.MOST_GUESSED_BYTES + 1, np.uint8), (TensorSpec("x", "UINT8", (-1,)),)),
    ],
)
def test_a_sample_row_that_looks_like_nothing_is_not_guessed_from(row: Any, specs: tuple[TensorSpec, ...]) -> None:
    assert examples.guessed(row, described(*specs)) is None


def test_bytes_of_a_sample_row_are_a_body_where_one_is_taken() -> None:
    request = examples.guessed(b"hello", described(TensorSpec("x", "UINT8", (-1,)), types=(RAW,)))
    assert request is not None
    example = examples.published(request)
    assert example is not None
    assert (example.content_type, example.body, example.is_base64) == (RAW, "hello", False)


def test_bytes_that_cannot_be_typed_are_shown_as_base64_and_long_ones_not_at_all() -> None:
    example = examples.published(Request("a", 1, RAW, b"\x00\xff"))
    assert example is not None
    assert example.is_base64
    assert base64.b64decode(example.body) == b"\x00\xff"
    assert examples.published(Request("a", 1, RAW, b"x" * (examples.MOST_PUBLISHED_BYTES + 1))) is None
    assert examples.published(Request("a", 1, RAW, b"")) is None


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("x", "FP32", (1,), np.array([np.nan], "<f4").tobytes()),
        Tensor("x", "BYTES", (1,), (1).to_bytes(4, "little") + b"\xff"),
        Tensor("x", "UINT8", (5000,), bytes(5000)),
        Tensor("x", "UINT8", (3000,), b"\xff" * 3000),
    ],
)
def test_inputs_that_json_cannot_show_are_not_shown(tensor: Tensor) -> None:
    assert examples.published(Request("a", 1, inputs=(tensor,))) is None

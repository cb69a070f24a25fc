"""Models that only compute: what goes in and out of them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer.loading.rehearsal import rehearse
from consumer.models.own.checked_model import CheckedModel
from headrace.model import ImageModel, Model, Request, RequestError, Tensor, TensorModel, TextModel

PHOTO = Path(__file__).parents[5] / "examples/photos/coffee.jpg"


class Sums(TensorModel):
    inputs: ClassVar[Mapping[str, Any]] = {"a": ("FP32", (-1,)), "b": ("FP32", (1,))}
    outputs: ClassVar[Mapping[str, Any]] = {"sum": ("FP32", ()), "longest": ("INT64", ())}

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def compute(self, **inputs: NDArray[Any]) -> Any:
        a, b = inputs["a"], inputs["b"]
        self.sizes.append(a.shape)
        return {"sum": a.sum(axis=1) + b[:, 0], "longest": np.full(len(a), a.shape[1])}


class Moods(TextModel):
    labels = ("sad", "glad")

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def compute(self, texts: Sequence[str]) -> Any:
        return [[0.2, 0.8] if "good" in text else [0.9, 0.1] for text in texts]


class Lengths(TextModel):
    size = 1

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def compute(self, texts: Sequence[str]) -> Any:
        import torch

        return torch.tensor([[float(len(text))] for text in texts], requires_grad=True).bfloat16()


class Means(ImageModel):
    labels = ("red", "green", "blue")
    side = 32

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def compute(self, pixels: NDArray[np.float32]) -> Any:
        assert pixels.dtype == np.float32
        assert pixels.shape[1:] == (3, 32, 32)
        pixels -= 1  # its own
        return pixels.mean(axis=(2, 3))


def numbers(name: str, *rows: Sequence[float]) -> Tensor:
    data = np.array(rows, "<f4")
    return Tensor(name, "FP32", data.shape, data.tobytes())


def of(*inputs: Tensor, **params: Any) -> Request:
    return Request("a", 1000, inputs=inputs, params=params)


def answered(model: Model, request: Request) -> Any:
    rows = model.preprocess(request)
    return model.postprocess(list(model.run(list(rows))), request)


@pytest.mark.parametrize("kind", [Sums, Moods, Lengths, Means])
def test_it_keeps_the_promises_of_a_model(kind: type[Model]) -> None:
    model = CheckedModel(kind(), lambda: None)
    model.load("cpu", "fp32")
    model.describe()
    rows = model.sample_rows(3)
    assert len(model.run(rows)) == 3


def test_rows_of_the_same_size_are_computed_together_and_answers_keep_their_order() -> None:
    model = Sums()
    requests = [of(numbers("a", [1] * size), numbers("b", [100 * at])) for at, size in enumerate((3, 5, 3, 1))]
    rows = [row for request in requests for row in model.preprocess(request)]
    outputs = model.run(rows)
    assert sorted(model.sizes) == [(1, 1), (1, 5), (2, 3)]
    assert [(float(one), int(longest)) for one, longest in outputs] == [(3, 3), (105, 5), (203, 3), (301, 1)]


def test_several_outputs_come_by_their_names() -> None:
    found = answered(Sums(), of(numbers("a", [1, 2], [3, 4]), numbers("b", [0], [1])))
    assert [
        (one.name, one.shape, np.frombuffer(one.data, "<f4" if one.name == "sum" else "<i8").tolist())
        for one in found.outputs
    ] == [
        ("sum", (2,), [3, 8]),
        ("longest", (2,), [2, 2]),
    ]


def test_a_classifier_of_texts_answers_with_classes() -> None:
    request = Request("a", 1000, body=b"a good day", content_type="Text/Plain; charset=utf-8", params={"top_k": 1})
    assert [(one.label, one.score) for one in answered(Moods(), request).predictions] == [("glad", 0.8)]


def test_a_tensor_of_torch_is_taken_as_it_is() -> None:
    [output] = answered(Lengths(), Request("a", 1000, body="schön".encode(), content_type="text/plain")).outputs
    assert np.frombuffer(output.data, "<f4").tolist() == [5.0]


def test_a_picture_becomes_normalised_pixels() -> None:
    request = Request("a", 1000, body=PHOTO.read_bytes(), content_type="image/jpeg")
    assert answered(Means(), request).predictions[0].label == "red"


def test_pixels_may_come_as_a_tensor() -> None:
    data = np.zeros((2, 32, 32, 3), np.uint8)
    data[0, ..., 1] = data[1, ..., 2] = 255
    request = of(Tensor("input", "UINT8", data.shape, data.tobytes()), top_k=1)
    assert [one.label for one in answered(Means(), request).predictions] == ["green", "blue"]


@pytest.mark.parametrize(
    ("model", "request_", "sentence"),
    [
        (Moods(), Request("a", 1, body=b"\xff", content_type="text/plain"), "The text is not UTF-8: byte 0 is wrong."),
        (Moods(), Request("a", 1, body=b"x", content_type="image/png"), "This model takes text/plain or an input text"),
        (Moods(), Request("a", 1, body=b"x", content_type="text/plain", params={"top_k": 3}), "top_k must be a whole"),
        (Means(), Request("a", 1, body=b"x", content_type="text/plain"), "This model takes image/jpeg"),
        (Means(), Request("a", 1, body=b"x", content_type="image/png"), "The body is not a JPEG"),
        (Sums(), of(numbers("a", [1])), "Input b is missing."),
        (Sums(), Request("a", 1, body=b"x", content_type="text/plain"), "This model takes inputs: a, b."),
    ],
)
def test_what_does_not_fit_gets_one_sentence(model: Model, request_: Request, sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        model.preprocess(request_)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"sum": [1]}, "compute must return sum, longest, not sum."),
        ([1], "compute must return a mapping with sum, longest."),
        (
            {"sum": [1, 2], "longest": [1]},
            "compute (sum) must return one row for each of the 1 rows it got, not 2",
        ),
        ({"sum": 1.0, "longest": [1]}, "compute (sum) must return one row for each of the 1 rows it got, not a single"),
    ],
)
def test_what_compute_returns_wrongly_is_named(value: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sums, "compute", lambda self, **inputs: value)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        answered(Sums(), of(numbers("a", [1]), numbers("b", [1])))


def test_a_model_of_pictures_has_an_example_that_it_answers_and_that_a_card_can_show() -> None:
    model = CheckedModel(Means(), lambda: None)
    example = rehearse("means", model, model.describe())
    assert example is not None
    assert (example.content_type, example.is_base64) == ("image/jpeg", True)
    again = Request("r", 10_000, example.content_type, base64.b64decode(example.body))
    rows = model.preprocess(again)
    assert [one.label for one in model.postprocess(model.run(rows), again).predictions or ()]

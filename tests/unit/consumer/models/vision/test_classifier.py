"""The common classifier: what goes in, what is refused, what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from consumer.models.base import IMAGES, RAW, Model
from consumer.models.families import build
from consumer.models.own.promises import AnswerCheck
from consumer.models.ranking import best
from consumer.models.vision.classifier import Classifier
from shared.model_config import ModelConfig, Preprocessing
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, UNSUPPORTED_MEDIA_TYPE, RequestError
from tests.unit.consumer.models.picture_files import encoded, scans_of

PHOTOS = Path(__file__).parents[5] / "examples/photos"
SIZE = 224 * 224 * 3


def photo(name: str, **params: Any) -> Request:
    return Request("a", 1000, content_type="image/jpeg", body=(PHOTOS / f"{name}.jpg").read_bytes(), params=params)


def raw(body: bytes) -> Request:
    return Request("a", 1000, content_type=RAW, body=body)


def tensor(shape: Sequence[int], datatype: str = "UINT8", name: str = "input", data: bytes | None = None) -> Request:
    if data is None:
        data = bytes(int(np.prod(shape)))
    return Request("a", 1000, inputs=(Tensor(name, datatype, tuple(shape), data),))


def refusal(model: Model, request: Request) -> RequestError:
    with pytest.raises(RequestError) as caught:
        model.preprocess(request)
    return caught.value


@pytest.mark.parametrize(
    ("name", "label", "least"), [("cat", "Egyptian cat", 0.3), ("coffee", "espresso", 0.85), ("rocket", "missile", 0.3)]
)
def test_photographs_get_their_labels(imagenet: Model, name: str, label: str, least: float) -> None:
    request = photo(name)
    result = imagenet.postprocess(imagenet.run(imagenet.preprocess(request)), request)
    assert result.predictions is not None
    assert len(result.predictions) == 5
    assert result.predictions[0].label == label
    assert result.predictions[0].score > least
    scores = [prediction.score for prediction in result.predictions]
    assert scores == sorted(scores, reverse=True)


def test_the_description_says_what_the_model_takes(imagenet: Model) -> None:
    description = imagenet.describe()
    assert [(spec.name, spec.datatype, spec.shape) for spec in description.inputs] == [
        ("input", "UINT8", (224, 224, 3)),
    ]
    assert description.content_types == (*IMAGES, RAW)
    assert description.labels is not None
    assert len(description.labels) == 1000
    assert description.labels[285] == "Egyptian cat"
    assert description.warnings == ()
    assert [row.shape for row in imagenet.sample_rows(3)] == [(224, 224, 3)] * 3


def test_raw_rows_and_tensors_give_what_the_picture_gives(imagenet: Model) -> None:
    rows = imagenet.preprocess(photo("cat"))
    pixels = rows[0].tobytes()
    expected = imagenet.run(rows)
    for request in (raw(pixels), tensor((224, 224, 3), data=pixels), tensor((1, 224, 224, 3), data=pixels)):
        np.testing.assert_array_equal(imagenet.run(imagenet.preprocess(request)), expected)
        assert not imagenet.decodes(request)
    assert imagenet.decodes(photo("cat"))


def test_only_a_large_picture_is_large(imagenet: Model) -> None:
    """A JPEG of 49 megapixels is decoded at a quarter of its size, so it is none."""
    for body, is_large in (
        (encoded(Image.new("L", (7000, 7000)), "JPEG"), False),
        (encoded(Image.new("P", (7000, 7000))), True),
    ):
        effort = imagenet.effort(Request("a", 1000, content_type="image/jpeg; x=y", body=body))
        assert effort is not None
        assert effort.is_large == is_large
    assert imagenet.effort(raw(bytes(224 * 224 * 3))) is None
    assert imagenet.effort(tensor((224, 224, 3))) is None
    with pytest.raises(RequestError, match="scans"):
        imagenet.effort(Request("a", 1000, content_type="image/jpeg", body=scans_of(7000, 7000, 700)))


def test_several_rows_of_one_request_are_told_apart(imagenet: Model) -> None:
    pixels = [imagenet.preprocess(photo(name))[0].tobytes() for name in ("rocket", "coffee")]
    request = Request("a", 1000, content_type=RAW, body=b"".join(pixels), params={"top_k": 1})
    result = imagenet.postprocess(imagenet.run(imagenet.preprocess(request)), request)
    assert [(p.row, p.label) for p in result.predictions or ()] == [(0, "missile"), (1, "espresso")]
    # Its answers are not checked while it serves, and cost nothing: here they are.
    assert AnswerCheck(imagenet.describe())(result, rows=2) == result


def test_raw_rows_are_not_copied(mobilenet: Model) -> None:
    body = bytes(2 * SIZE)
    rows = mobilenet.preprocess(raw(body))
    start = np.frombuffer(body, np.uint8).__array_interface__["data"][0]
    assert [row.__array_interface__["data"][0] - start for row in rows] == [0, SIZE]


@pytest.mark.parametrize("length", [0, 1, SIZE - 1, SIZE + 1, 2 * SIZE - 1])
def test_raw_bodies_of_another_length_are_refused(mobilenet: Model, length: int) -> None:
    error = refusal(mobilenet, raw(bytes(length)))
    assert (error.outcome, error.field) == (INVALID_INPUT, "body")
    assert f"holds {length} bytes" in error.message


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (tensor((224, 224)), "inputs[0].shape"),
        (tensor((3, 224, 224)), "inputs[0].shape"),
        (tensor((0, 224, 224, 3)), "inputs[0].shape"),
        (tensor((1, 1, 224, 224, 3)), "inputs[0].shape"),
        (tensor(()), "inputs[0].shape"),
        (tensor((SIZE,)), "inputs[0].shape"),
        (tensor((224, 224, 3), datatype="FP32", data=bytes(4 * SIZE)), "inputs[0].datatype"),
        (tensor((224, 224, 3), datatype="INT8"), "inputs[0].datatype"),
        (tensor((224, 224, 3), name="pixels"), "inputs[0].name"),
        (Request("a", 1000, inputs=(Tensor("input", "UINT8", (0,), b""),) * 2), "inputs"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_field(mobilenet: Model, request_: Request, field: str) -> None:
    error = refusal(mobilenet, request_)
    assert (error.outcome, error.field) == (INVALID_INPUT, field)


@pytest.mark.parametrize("content_type", ["text/plain", "image/gif", "application/json", "", None])
def test_other_content_types_are_refused(mobilenet: Model, content_type: str | None) -> None:
    error = refusal(mobilenet, Request("a", 1000, content_type=content_type, body=b"x"))
    assert error.outcome is UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("top_k", [0, -1, 1001, 2.0, "3", True])
def test_a_wrong_top_k_is_refused_before_anything_runs(mobilenet: Model, top_k: Any) -> None:
    error = refusal(mobilenet, photo("cat", top_k=top_k))
    assert (error.outcome, error.field) == (INVALID_INPUT, "parameters.top_k")


def test_logits_are_returned_to_a_request_that_asks_for_them(mobilenet: Model) -> None:
    request = Request("a", 1000, content_type=RAW, body=bytes(2 * SIZE), params={"answer": "tensors"})
    logits = mobilenet.run(mobilenet.preprocess(request))
    result = mobilenet.postprocess(logits, request)
    assert result.predictions is None
    assert result.outputs is not None
    assert AnswerCheck(mobilenet.describe())(result, 2).outputs == list(result.outputs)
    assert np.array_equal(np.frombuffer(result.outputs[0].data, "<f4").reshape(2, -1), np.asarray(logits))
    assert mobilenet.describe().answers() == ("predictions", "tensors")


@pytest.mark.parametrize("top_k", [1, 999, 1000])
def test_top_k_classes_are_given_best_first(mobilenet: Model, top_k: int) -> None:
    request = photo("cat", top_k=top_k)
    logits = mobilenet.run(mobilenet.preprocess(request))
    predictions = mobilenet.postprocess(logits, request).predictions or ()
    assert [p.index for p in predictions] == np.argsort(-np.asarray(logits)[0], kind="stable")[:top_k].tolist()
    if top_k == 1000:
        assert sum(p.score for p in predictions) == pytest.approx(1, abs=1000 * 1e-6)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=40), st.data())
def test_best_ranks_by_value(values: list[int], data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, len(values)))
    ranked = best(np.array([values], np.float32), top_k)[0].tolist()
    assert [values[index] for index in ranked] == sorted(values, reverse=True)[:top_k]
    assert len(set(ranked)) == top_k


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_an_error_of_the_model(mobilenet: Model, value: float) -> None:
    outputs = np.zeros((1, 1000), np.float32)
    outputs[0, 7] = value
    with pytest.raises(RequestError) as caught:
        mobilenet.postprocess(list(outputs), photo("cat"))
    assert caught.value.outcome is MODEL_ERROR


@pytest.mark.parametrize("batch", [2, 8])
def test_a_row_is_bit_identical_whatever_rides_with_it(mobilenet: Model, batch: int) -> None:
    rows = list(mobilenet.sample_rows(batch))
    before = np.array(mobilenet.run(rows))
    rows[1] = np.full((224, 224, 3), 255, np.uint8)
    after = np.asarray(mobilenet.run(rows))
    others = [index for index in range(batch) if index != 1]
    assert np.array_equal(before[others], after[others])
    assert not np.array_equal(before[1], after[1])


def test_a_batch_leaves_nothing_behind_for_the_next(mobilenet: Model) -> None:
    rows = mobilenet.sample_rows(4)
    alone = np.array(mobilenet.run(rows[:1]))
    kept = mobilenet.run(rows)
    copy = np.array(kept)
    assert np.array_equal(mobilenet.run(rows[:1]), alone)
    assert np.array_equal(kept, copy)


def test_more_rows_than_declared_still_run(shipped: dict[str, ModelConfig]) -> None:
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random", max_batch=2)
    model = build("small", config)
    model.load("cpu", "fp32")
    rows = model.sample_rows(3)
    np.testing.assert_allclose(np.asarray(model.run(rows))[:2], model.run(rows[:2]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_precisions_a_cpu_lacks_are_refused_with_advice(shipped: dict[str, ModelConfig], precision: str) -> None:
    with pytest.raises(ValueError, match=f"{precision} .* on a CPU; use bf16 or fp32"):
        build("bench-mobilenet", shipped["bench-mobilenet"]).load("cpu", precision)


def test_an_unknown_device_or_a_missing_gpu_is_told(shipped: dict[str, ModelConfig]) -> None:
    import torch

    model = build("bench-mobilenet", shipped["bench-mobilenet"])
    with pytest.raises(ValueError, match="must be cpu or cuda, not 'tpu'"):
        model.load("tpu", "fp32")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no usable GPU"):
            model.load("cuda", "fp32")


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (Preprocessing(resize=200, crop=224), "must not be larger than resize"),
        (Preprocessing(interpolation="cubic"), "interpolation must be one of nearest, bilinear, bicubic, lanczos"),
        (Preprocessing(std=(1.0, 0.0, 1.0)), "std must be three numbers above 0"),
    ],
)
def test_impossible_preprocessing_is_refused_at_the_start(preprocessing: Preprocessing, expected: str) -> None:
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random", preprocessing=preprocessing)
    with pytest.raises(ValueError, match=expected):
        build("mine", config).load("cpu", "fp32")


def test_a_model_that_was_not_loaded_says_so(shipped: dict[str, ModelConfig]) -> None:
    model = build("imagenet", shipped["imagenet"])
    assert isinstance(model, Classifier)
    with pytest.raises(RuntimeError, match="has not been loaded"):
        model.describe()
    with pytest.raises(RuntimeError, match="has not been loaded"):
        model.run([])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_precision_runs_on_a_gpu(shipped: dict[str, ModelConfig], precision: str) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    model = build("imagenet", shipped["imagenet"])
    model.load("cuda", precision)
    request = photo("coffee")
    predictions = model.postprocess(model.run(model.preprocess(request)), request).predictions or ()
    assert predictions[0].label == "espresso"

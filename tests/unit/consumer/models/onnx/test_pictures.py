"""Family onnx with labels or preprocessing: pictures in, predictions out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from consumer.models.base import IMAGES, RAW, Model
from consumer.models.vision.classifier import INPUT
from shared.model_config import ModelConfig, Preprocessing
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import MODEL_ERROR, RequestError
from tests.unit.consumer.models.onnx_files import (
    FLOAT,
    INT64,
    UINT8,
    classifier,
    embedding,
    identity,
    node,
    proto,
    serve,
    value,
    written,
)
from tests.unit.consumer.models.picture_files import encoded, noise
from tests.unit.consumer.models.vision.test_classifier import photo

SIDE = 8
PREPROCESSING = Preprocessing(resize=10, crop=SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def pixels(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def expected(path: Path, sent: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The scores of each row, by the definition of ``preprocessing``."""
    mean, std = np.array(PREPROCESSING.mean), np.array(PREPROCESSING.std)
    normal = ((sent / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: normal})[0]
    scores = np.exp(logits)
    found: np.ndarray[Any, Any] = scores / scores.sum(axis=1, keepdims=True)
    return found


def scored(model: Model, asked: Request) -> np.ndarray[Any, Any]:
    """The scores of all classes, a row for each row of the request."""
    result = model.postprocess(model.run(model.preprocess(asked)), asked)
    classes = len(model.describe().labels or ())
    found = np.zeros((len(result.predictions or ()) // classes, classes))
    for one in result.predictions or ():
        found[one.row, one.index] = one.score
    return found


def raw(sent: np.ndarray[Any, Any], classes: int = 4) -> Request:
    return Request("r", 1000, RAW, sent.tobytes(), params={"top_k": classes})


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_pictures_are_normalised_and_classified(tmp_path: Path, runtime: str) -> None:
    path = written(tmp_path, classifier())
    model = serve(path, preprocessing=PREPROCESSING, runtime=runtime)
    sent = pixels(5)
    assert np.allclose(scored(model, raw(sent)), expected(path, sent), atol=1e-4)
    tensor = Request("r", 1000, inputs=(Tensor(INPUT, "UINT8", sent.shape, sent.tobytes()),), params={"top_k": 4})
    assert np.array_equal(scored(model, tensor), scored(model, raw(sent)))
    assert model.describe().content_types == (*IMAGES, RAW)
    picture = Request("r", 1000, "image/png", encoded(noise(20, 30)))
    assert model.postprocess(model.run(model.preprocess(picture)), picture).predictions


def test_labels_alone_make_it_a_classifier_of_the_files_own_size(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\ntwo\nthree\nfour\n")
    model = serve(written(tmp_path, classifier(side=32)), labels=str(tmp_path / "labels.txt"))
    assert model.describe().labels == ("one", "two", "three", "four")
    assert model.describe().inputs[0].shape == (32, 32, 3)


def test_without_labels_classes_are_numbered(tmp_path: Path) -> None:
    model = serve(written(tmp_path, classifier(classes=3)), preprocessing=PREPROCESSING)
    assert model.describe().labels == ("class 0", "class 1", "class 2")


def test_a_file_that_ends_in_a_softmax_gives_its_own_scores(tmp_path: Path) -> None:
    plain = serve(written(tmp_path, classifier(), "plain.onnx"), preprocessing=PREPROCESSING)
    soft = serve(written(tmp_path, classifier(softmax=True), "soft.onnx"), preprocessing=PREPROCESSING)
    assert np.allclose(scored(soft, raw(pixels(3))), scored(plain, raw(pixels(3))), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_fixed_batch_is_filled_up(tmp_path: Path, rows: int) -> None:
    path = written(tmp_path, classifier(rows=rows), "fixed.onnx")
    free = written(tmp_path, classifier(), "free.onnx")
    model = serve(path, preprocessing=PREPROCESSING)
    assert np.allclose(scored(model, raw(pixels(6))), expected(free, pixels(6)), atol=1e-4)
    assert model.padded_rows() >= (2 if rows == 4 else 0)


def _of_bytes(is_last: bool) -> onnx.ModelProto:
    """As ``classifier``, of pixels as they are."""
    model = classifier()
    shape = ["n", SIDE, SIDE, 3] if is_last else ["n", 3, SIDE, SIDE]
    model.graph.input[0].CopyFrom(value("bytes", UINT8, shape))
    first = [node("Cast", "bytes", "floats", to=FLOAT)]
    first.append(node("Transpose", "floats", "pixels", perm=[0, 3, 1, 2] if is_last else [0, 1, 2, 3]))
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("is_last", [True, False])
def test_bytes_are_taken_as_they_are(tmp_path: Path, is_last: bool) -> None:
    model = serve(written(tmp_path, _of_bytes(is_last)), preprocessing=PREPROCESSING)
    sent = pixels(3)
    session = onnxruntime.InferenceSession(classifier().SerializeToString(), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"pixels": sent.transpose(0, 3, 1, 2).astype(np.float32)})[0]
    assert np.allclose(model.run(model.preprocess(raw(sent))), logits, rtol=1e-4)


def test_half_floats_are_taken(tmp_path: Path) -> None:
    half = classifier()
    half.graph.input[0].CopyFrom(value("half", TensorProto.FLOAT16, ["n", 3, SIDE, SIDE]))
    half.graph.node.insert(0, node("Cast", "half", "pixels", to=FLOAT))
    model = serve(written(tmp_path, half, "half.onnx"), preprocessing=PREPROCESSING)
    full = written(tmp_path, classifier(), "full.onnx")
    assert np.allclose(scored(model, raw(pixels(2))), expected(full, pixels(2)), atol=1e-2)


def test_logits_that_are_not_finite_fail_that_request(tmp_path: Path) -> None:
    model = classifier()
    model.graph.node.append(node("Log", "logits", "logs"))
    model.graph.output[0].CopyFrom(value("logs", FLOAT, ["n", 4]))
    served = serve(written(tmp_path, model), preprocessing=PREPROCESSING)
    with pytest.raises(RequestError, match="is not finite") as raised:
        scored(served, raw(pixels(2)))
    assert raised.value.outcome is MODEL_ERROR


@pytest.mark.parametrize(
    ("model", "keys", "said"),
    [
        (embedding(), {}, "the file has 2 inputs; as an image classifier it needs one input"),
        (identity(FLOAT, ("n", 4)), {}, "the file takes FP32 .*; as an image classifier"),
        (identity(INT64, ("n", 3, 8, 8)), {}, "the file takes INT64"),
        (identity(FLOAT, ("n", 5, 8, 8)), {}, "pictures of 5 colours"),
        (identity(FLOAT, ("n", 3, 8, 9)), {}, "its pictures are not square"),
        (classifier(side=16), {}, "preprocessing.crop is 8, but the file takes pictures of 16 pixels"),
        (classifier(), {"preprocessing": Preprocessing(resize=4, crop=8)}, "must not be larger than resize"),
        (classifier(), {"labels": "imagenet-1k"}, "the file gives 4 classes, but there are 1000 labels"),
        (classifier(), {"labels": "none.txt"}, "labels must be"),
        (
            identity(FLOAT, ("n", 3, 8, 8)),
            {},
            r"the first output has the shape \[1, 3, 8, 8\], not \(pictures, classes\)",
        ),
    ],
)
def test_what_is_no_classifier_of_these_pictures_is_refused(
    tmp_path: Path, model: onnx.ModelProto, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        serve(written(tmp_path, model), **{"preprocessing": PREPROCESSING, **keys})


def test_whole_numbers_are_no_scores(tmp_path: Path) -> None:
    best = classifier()
    best.graph.node.append(node("ArgMax", "logits", "best", axis=1, keepdims=1))
    best.graph.output[0].CopyFrom(value("best", INT64, ["n", 1]))
    with pytest.raises(ValueError, match="its first output is of INT64; a classifier gives logits"):
        serve(written(tmp_path, best), preprocessing=PREPROCESSING)


def test_the_names_of_imagenet_are_those_of_torchvision() -> None:
    from torchvision.models import MobileNet_V3_Small_Weights

    from consumer.runtimes import labels

    assert list(labels.read(labels.IMAGENET)) == MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["categories"]


def test_pixels_of_one_colour_give_what_the_definition_says(tmp_path: Path) -> None:
    """Each channel has a mean and a deviation of its own, in the order red, green, blue."""
    mean = proto(
        [node("GlobalAveragePool", "pixels", "mean"), node("Flatten", "mean", "y")],
        [value("pixels", FLOAT, ["n", 3, SIDE, SIDE])],
        [value("y", FLOAT, ["n", 3])],
    )
    model = serve(written(tmp_path, mean), preprocessing=PREPROCESSING)
    sent = np.broadcast_to(np.array([255, 0, 51], np.uint8), (1, SIDE, SIDE, 3))
    [found] = np.asarray(model.run(model.preprocess(raw(sent, 3))))
    assert found.tolist() == pytest.approx([0.5 / 0.2, -0.4 / 0.25, -0.1 / 0.3], rel=1e-5)


def test_a_real_network_as_a_file_gives_what_it_gives_in_torch(
    tmp_path: Path, imagenet: Model, shipped: dict[str, ModelConfig]
) -> None:
    """EfficientNet-Lite0, exported as everybody exports, on photographs."""
    import torch

    from consumer.models.vision import timm

    config = shipped["imagenet"]
    module, example = timm.build_network(config).module, torch.zeros(2, 3, 224, 224)
    path = tmp_path / "imagenet.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on itself
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            dynamic_axes={"pixels": {0: "n"}, "logits": {0: "n"}},
            input_names=["pixels"],
            output_names=["logits"],
        )
    model = serve(path, labels=config.labels, preprocessing=config.preprocessing)
    assert model.describe() == imagenet.describe()
    rows = [row for name in ("cat", "coffee") for row in imagenet.preprocess(photo(name))]
    assert all(map(np.array_equal, rows, (row for name in ("cat", "coffee") for row in model.preprocess(photo(name)))))
    assert np.allclose(model.run(rows), imagenet.run(rows), atol=1e-3)

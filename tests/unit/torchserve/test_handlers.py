"""Archives as models: how handlers are found and loaded, what ours answer, and what is said of those that cannot be."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from consumer.models.base import Model
from consumer.models.load_errors import said_by
from consumer.models.torchserve import torchserve_family
from shared.model_config import ModelConfig
from shared.wire.messages import Request
from shared.wire.outcomes import RequestError
from tests.e2e.torchserve.archives import archive

LABELS = json.dumps({"0": "cat", "1": "dog"})


class Doubler(torch.nn.Module):
    """TorchScript of it is an archive's whole network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """What a handler's archive left in this process's modules is forgotten."""
    before = list(sys.path)
    yield
    assert sys.path == before


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _scripted(module: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def _answers(model: Model, requests: Sequence[Request]) -> list[Any]:
    """Load, answer one batch of ``requests`` and close; JSON is parsed."""
    try:
        model.load("cpu", "fp32")
        rows = [row for one in requests for row in model.preprocess(one)]
        outputs = model.run(rows)
        results = [model.postprocess([output], one) for output, one in zip(outputs, requests, strict=True)]
        model.run(model.sample_rows(2))
    finally:
        model.close()
    return [json.loads((result.outputs or ())[0].data[4:]) for result in results]


def _model(path: Path, **options: Any) -> Model:
    return torchserve_family.build(ModelConfig("torchserve", weights=str(path), options=options), 1)


def _refused(path: Path, **options: Any) -> str:
    model = None
    try:
        model = _model(path, **options)
        model.load("cpu", "fp32")
    except BaseException as error:
        return said_by(error)
    finally:
        if model is not None:
            model.close()
    raise AssertionError("it loads")


def _raw(body: bytes, content_type: str = "application/octet-stream") -> Request:
    return Request("r", 1000, content_type, body)


def _picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (32, 32), colour).save(file, "PNG")
    return file.getvalue()


def test_torchscript_behind_the_base_handler(tmp_path: Path) -> None:
    made = archive(tmp_path / "m.mar", {"d.pt": _scripted(Doubler())}, handler="base_handler", serializedFile="d.pt")
    asked = [_raw(b"[1, 2]", "application/json"), _raw(b"[3, 4]", "application/json")]
    assert _answers(_model(made), asked) == [[2, 4], [6, 8]]


def test_a_handlers_file_with_its_weights_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ts.torch_handler.base_handler import BaseHandler\n"
        "class Mine(BaseHandler):\n"
        "    def preprocess(self, data):\n"
        "        return super().preprocess([{'data': [float(row['body'])]} for row in data])\n"
    )
    (tmp_path / "d.pt").write_bytes(_scripted(Doubler()))
    asked = [_raw(b"1.5", "text/plain")]
    assert _answers(_model(tmp_path / "mine.py", serialized_file="d.pt"), asked) == [[3.0]]


def test_a_class_with_three_steps_and_no_handle(tmp_path: Path) -> None:
    code = (
        "class Steps:\n"
        "    def initialize(self, context): self.add = len(context.manifest['model'])\n"
        "    def preprocess(self, data): return [len(row['body']) for row in data]\n"
        "    def inference(self, lengths): return [n * 10 for n in lengths]\n"
        "    def postprocess(self, tens): return tens\n"
    )
    made = archive(tmp_path / "m.mar", {"steps.py": code}, handler="steps.py")
    assert _answers(_model(made), [_raw(b"abc"), _raw(b"a")]) == [30, 10]


TEXTS = """
import torch
class Bag(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(4, 2))
    def forward(self, words, offsets):
        return torch.nn.functional.embedding_bag(words, self.weights, offsets, mode="sum")
"""


def test_texts_are_classified_by_their_words(tmp_path: Path) -> None:
    weights = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [0.0, 9.0]])
    files: dict[str, str | bytes] = {
        "bag.py": TEXTS,
        "bag.pt": _saved({"weights": weights}),
        "source_vocab.pt": _saved({"<unk>": 0, "purrs": 1, "barks": 2, "it barks": 3}),
        "index_to_name.json": LABELS,
    }
    made = archive(tmp_path / "m.mar", files, handler="text_classifier", modelFile="bag.py", serializedFile="bag.pt")
    first, second = _answers(_model(made), [_raw(b"It <b>purrs</b>"), _raw(b"it barks!", "text/plain")])
    assert first["cat"] > 0.9
    assert second["dog"] > 0.99


RESNET = """
from torchvision.models.resnet import BasicBlock, ResNet
class ImageClassifier(ResNet):
    def __init__(self):
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=10)
"""


def test_the_example_of_the_image_classifier_with_a_network_of_torchvision(tmp_path: Path) -> None:
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(3)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval()
    labels = {str(number): [f"n{number}", f"label {number}"] for number in range(10)}
    files: dict[str, str | bytes] = {
        "model.py": RESNET,
        "resnet.pth": _saved(network.state_dict()),
        "index_to_name.json": json.dumps(labels),
    }
    given = {"handler": "image_classifier", "modelFile": "model.py", "serializedFile": "resnet.pth"}
    made = archive(tmp_path / "m.mar", files, **given)
    alone, together = _answers(_model(made), [_raw(_picture("blue")), _raw(_picture("yellow"))])
    assert len(alone) == 5
    assert set(alone) < {label for _, label in labels.values()}
    assert sorted(alone.values(), reverse=True) == list(alone.values())
    assert alone != together


SEGMENTS = """
import torch
class Halves(torch.nn.Module):
    def forward(self, x):
        return {"out": torch.stack([x[:, 0], x[:, 1]], dim=1)}
"""

BOXES = """
import torch
class Boxes(torch.nn.Module):
    def forward(self, pictures):
        return [
            {"boxes": torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]]),
             "labels": torch.tensor([1, 0]), "scores": torch.tensor([0.75, 0.25])}
            for one in pictures
        ]
"""


def test_pictures_are_segmented(tmp_path: Path) -> None:
    made = archive(tmp_path / "m.mar", {"halves.py": SEGMENTS}, handler="image_segmenter", modelFile="halves.py")
    [answer] = _answers(_model(made), [_raw(_picture())])
    assert (len(answer), len(answer[0]), answer[0][0][0]) == (224, 224, 0.0)


def test_objects_are_found(tmp_path: Path) -> None:
    files = {"boxes.py": BOXES, "index_to_name.json": LABELS}
    made = archive(tmp_path / "m.mar", files, handler="object_detector", modelFile="boxes.py")
    assert _answers(_model(made), [_raw(_picture())]) == [[{"dog": [0.0, 0.0, 2.0, 2.0], "score": 0.75}]]


class Evil:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self._trace,))


def test_a_pickle_is_opened_only_with_trust(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    files: dict[str, str | bytes] = {"bag.py": TEXTS, "bag.pt": _saved({"weights": Evil(trace)})}
    made = archive(tmp_path / "m.mar", files, handler="base_handler", modelFile="bag.py", serializedFile="bag.pt")
    assert "`options = { trust = true }`" in _refused(made)
    assert not trace.exists()
    _refused(made, trust=True)
    assert trace.exists()


@pytest.mark.parametrize(
    ("files", "manifest", "said"),
    [
        ({"h.py": "import nowhere_at_all\n"}, {"handler": "h.py"}, "not installed: pip install nowhere_at_all."),
        (
            {"h.py": "import nowhere_at_all\n", "requirements.txt": "x"},
            {"handler": "h.py", "requirementsFile": "requirements.txt"},
            "not installed: pip install -r /",
        ),
        ({"h.py": "import ts.model_loader\n"}, {"handler": "h.py"}, "which Headrace has no substitute for"),
        ({"h.py": "raise KeyError(1)\n"}, {"handler": "h.py"}, "importing handler h.py failed: KeyError: 1."),
        ({"h.py": "import sys; sys.exit(2)\n"}, {"handler": "h.py"}, "h.py failed: it called sys.exit(2)."),
        ({"h.py": "x = 1\n"}, {"handler": "h.py"}, "must have a function handle(data, context), or one class"),
        ({"h.py": "x = 1\n"}, {"handler": "h.py:go"}, "must have a function go(data, context)"),
        (
            {"h.py": "class A:\n handle = print\nclass B:\n handle = print\n"},
            {"handler": "h.py"},
            "such classes there: A, B.",
        ),
        ({"json.py": "handle = print\n"}, {"handler": "json.py"}, "importing 'json' gives"),
        ({"csv.py": ""}, {"handler": "base_handler", "modelFile": "csv.py"}, "rename csv.py."),
        ({"a-b.py": "handle = print\n"}, {"handler": "a-b.py"}, "is none that Python can import"),
        ({"x": ""}, {"handler": "gone.py"}, "the archive has no gone.py"),
        ({"x": ""}, {"handler": "base_handler"}, "the manifest names no serializedFile"),
        (
            {"w.onnx": "no weights"},
            {"handler": "base_handler", "serializedFile": "w.onnx"},
            "w.onnx is ONNX, which this handler does not run",
        ),
        (
            {"w.pt": "no weights"},
            {"handler": "base_handler", "serializedFile": "w.pt"},
            "w.pt is no TorchScript, and the manifest names no modelFile",
        ),
        (
            {"n.py": "class A: pass\nclass B: pass\n", "w.pt": ""},
            {"handler": "base_handler", "serializedFile": "w.pt", "modelFile": "n.py"},
            "n.py must define exactly one class, the network; it defines A, B",
        ),
    ],
)
def test_what_cannot_be_loaded_is_said(
    tmp_path: Path, files: Mapping[str, str | bytes], manifest: Mapping[str, Any], said: str
) -> None:
    assert said in _refused(archive(tmp_path / "m.mar", files, **manifest))


def test_tables_that_are_wrong(tmp_path: Path) -> None:
    assert "there is no file or folder" in _refused(tmp_path / "none.mar")
    made = archive(tmp_path / "m.mar", {"h.py": "handle = print\n"}, handler="h.py")
    assert "options: Object contains unknown field `no`" in _refused(made, no=1)
    assert "is not a .mar archive" in _refused(_text(tmp_path / "text.mar"))


def _text(path: Path) -> Path:
    path.write_text("no zip")
    return path


def test_two_archives_one_after_the_other_have_modules_of_the_same_name(tmp_path: Path) -> None:
    for number in (1, 2):
        code = f"def handle(data, context):\n    return data and [{number}] * len(data)\n"
        made = archive(tmp_path / f"{number}.mar", {"service.py": code}, handler="service.py:handle")
        assert _answers(_model(made), [_raw(b"x")]) == [number]


def test_samples_are_run_before_it_serves(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "a.txt").write_text("hello")
    code = "def handle(data, context):\n    return data and [row['body'].upper() for row in data]\n"
    made = archive(tmp_path / "m.mar", {"service.py": code}, handler="service.py:handle")
    model = torchserve_family.build(ModelConfig("torchserve", weights=str(made), samples=str(folder)), 1)
    model.load("cpu", "fp32")
    try:
        assert [one.body for one in model.run(model.sample_rows(2))] == [b"HELLO", b"HELLO"]
        example = model.example()
        assert isinstance(example, Request)
        assert (example.body, example.content_type) == (b"hello", "text/plain")
    finally:
        model.close()


def test_a_tensor_of_numbers_is_not_for_a_handler(tmp_path: Path) -> None:
    from shared.wire.messages import Tensor

    made = archive(tmp_path / "m.mar", {"h.py": "handle = print\n"}, handler="h.py")
    with pytest.raises(RequestError, match="A handler takes bytes"):
        _model(made).preprocess(Request("r", 1, inputs=(Tensor("data", "UINT8", (1,), b"1"),)))

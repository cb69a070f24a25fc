"""The ONNX files of docs/models.md: exported and served with the page's own lines, and compared with torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.children import ROOT
from tests.unit.headrace.stacks import Running, own_stack

PAGE = (ROOT / "docs/models.md").read_text()
SECTION = PAGE.partition("## An ONNX file")[2].partition("\n## ")[0]
DAMAGED = '[models.damaged-file]\nfamily = "onnx"\nweights = "damaged.onnx"\n'
PHOTO = ROOT / "examples/photos/cat.jpg"

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def networks(folder: Path) -> dict[str, Any]:
    """What export.py of the page defines, after it was run in ``folder``."""
    [script] = re.findall(r"```python\n# export\.py\n(.*?)```", SECTION, re.DOTALL)
    names: dict[str, Any] = {"__name__": "export"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's remarks on itself
            exec(compile(script, "export.py", "exec"), names)
    finally:
        os.chdir(before)
    return names


@pytest.fixture(scope="module")
def url(folder: Path, networks: dict[str, Any]) -> Iterator[str]:
    """The address of both models, served with the page's table and lines."""
    [table] = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    (folder / "models.toml").write_text(table + DAMAGED)
    (folder / "damaged.onnx").write_bytes((folder / "pooled.onnx").read_bytes()[:200])
    [labels] = re.findall(r"^\$ (printf .*)$", SECTION, re.MULTILINE)
    subprocess.run(["bash", "-c", labels], cwd=folder, check=True)
    [models] = re.findall(r"^\$ HEADRACE_MODELS=(\S+) make up$", SECTION, re.MULTILINE)
    assert set(models.split(",")) == set(tomllib.loads(table)["models"])
    environment = {**own_stack(folder, f"{models},damaged-file"), "PYTHONPATH": str(ROOT)}
    # Paths in a table are relative to where Headrace is started.
    argv = ["bash", "-c", f'cd "{folder}" && exec "{sys.executable}" -m headrace up']
    with Running(argv, environment) as running:
        running.until(r"Ctrl-C stops everything")
        [found] = re.findall(r"API +(http://\S+)", running.output)
        assert "damaged.onnx cannot be served: it is damaged, cut short, or no ONNX file." in running.output
        assert re.search(r"FAILED +damaged-file: consumer damaged-file ended with code 69\.", running.output)
        (folder / "said").write_text(running.output)
        yield found
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output
        assert not re.search(r"consumer (pooled|colours)-file ended with code", running.output)


def _asked(url: str, model: str, body: bytes, content_type: str) -> Any:
    request = urllib.request.Request(f"{url}/v1/models/{model}/predict", body, {"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_the_request_of_the_page_is_answered_as_the_page_says(url: str) -> None:
    [(command, text)] = re.findall(r"^\$ (curl .*)\n(\{.*\})$", SECTION, re.MULTILINE)
    line = f"{command.replace('http://127.0.0.1:8000', url)} --silent --show-error --max-time 20"
    said = json.loads(subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout)
    expected = json.loads(text)
    assert said.keys() == expected.keys()
    assert {**said, "id": "", "timing": ""} == {**expected, "id": "", "timing": ""}


def _numbers(ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> bytes:
    both = {"ids": ("INT64", ids), "mask": ("FP32", mask)}
    inputs = [
        {"name": name, "shape": array.shape, "datatype": datatype, "data": array.ravel().tolist()}
        for name, (datatype, array) in both.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.soak
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 4), (5, 2)])
def test_tensors_give_what_torch_gives(url: str, networks: dict[str, Any], rows: int, length: int) -> None:
    torch = networks["torch"]
    random = np.random.default_rng(rows)
    ids, mask = random.integers(0, 10, (rows, length)), random.random((rows, length), np.float32)
    [output] = _asked(url, "pooled-file", _numbers(ids, mask), "application/json")["outputs"]
    wanted = networks["Pooled"]()(torch.from_numpy(ids), torch.from_numpy(mask))
    assert output["shape"] == [rows, 3]
    assert np.allclose(np.reshape(output["data"], (rows, 3)), wanted.numpy(), rtol=1e-4)


def test_an_id_that_the_file_refuses_fails_alone_among_many(url: str, networks: dict[str, Any]) -> None:
    def asked(number: int) -> tuple[int, Any]:
        length = 1 + number % 3
        ids = np.full((1, length), 99 if number % 8 == 5 else number % 10)
        try:
            found = _asked(url, "pooled-file", _numbers(ids, np.ones((1, length), np.float32)), "application/json")
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]["code"]
        return 200, found["outputs"][0]["data"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(asked, range(64)))
    vectors = networks["Pooled"]().vectors.weight
    for number, (status, data) in enumerate(answers):
        if number % 8 == 5:
            assert (status, data) == (500, "model_error")
        else:
            assert (status, data) == (200, pytest.approx(vectors[number % 10].tolist()))


def test_a_photograph_gives_what_torch_gives(url: str, networks: dict[str, Any]) -> None:
    torch = networks["torch"]
    said = _asked(url, "colours-file", PHOTO.read_bytes(), "image/jpeg")
    picture = Image.open(PHOTO).convert("RGB")
    scale = 72 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
    left, top = (picture.width - 64) // 2, (picture.height - 64) // 2
    pixels = np.asarray(picture.crop((left, top, left + 64, top + 64))) / 255
    normal = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    logits = networks["Colours"]()(torch.from_numpy(normal).permute(2, 0, 1)[None])
    scores = dict(zip(("red", "green", "blue"), logits.softmax(1)[0].tolist(), strict=True))
    assert {one["label"]: one["score"] for one in said["predictions"]} == pytest.approx(scores, abs=0.02)
    assert said["predictions"][0]["label"] == max(scores, key=lambda label: scores[label])


def test_the_lines_that_are_printed_are_requests_that_are_answered(url: str, folder: Path) -> None:
    lines = re.findall(r"^ +(curl .*/(\S+)/predict)$", (folder / "said").read_text(), re.MULTILINE)
    assert sorted(model for _, model in lines) == ["colours-file", "pooled-file"]
    for line, model in lines:
        done = subprocess.run(
            ["bash", "-c", f"{line} --silent --max-time 20"], cwd=ROOT, capture_output=True, check=True
        )
        said = json.loads(done.stdout)
        assert said["model"] == model
        assert said.get("outputs") or said.get("predictions")


def test_the_cards_name_the_runtime(url: str) -> None:
    for model in ("pooled-file", "colours-file"):
        with urllib.request.urlopen(f"{url}/v1/models/{model}", timeout=30) as answer:
            card = json.load(answer)
        assert (card["family"], card["precision"], card["device"]) == ("onnx", "fp32", "cpu")
        assert card.get("runtime", "onnxruntime") == "onnxruntime"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
def test_no_consumer_has_loaded_torch(url: str) -> None:
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"consumer" in words and (b"pooled-file" in words or b"colours-file" in words):
                maps = (process / "maps").read_text()
                assert "onnxruntime" in maps
                assert "libtorch" not in maps
                found += 1
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    assert found >= 2

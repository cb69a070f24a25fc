"""A file of family onnx, from its table to the card that front ends read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumer.config import resolve
from consumer.loading.closing import Closing
from consumer.loading.loader import Loader
from consumer.models.families import build
from consumer.models.load_errors import ModelCannotLoad
from consumer.tuning.fingerprint import fingerprint
from shared.settings import Settings
from shared.state.cards import Card, from_hash, to_hash
from tests.fakes import NoBoard
from tests.unit.consumer.models.onnx_files import doubling, embedding, written


def card(folder: Path, table: str = "", precision: str = "auto", **settings: str) -> Card:
    """The card of a file in ``folder``, as it comes out of Redis."""
    (folder / "models.toml").write_text(f'[models.file]\nfamily = "onnx"\nweights = "{folder}/model.onnx"\n{table}\n')
    environment = {f"HEADRACE_{name.upper()}": value for name, value in settings.items()}
    environment |= {"HEADRACE_MODELS_FILE": str(folder / "models.toml"), "HEADRACE_DATA_DIR": str(folder / "data")}
    config = resolve(Settings.from_env(environment), "file", 0)
    loader = Loader(config, lambda: build("file", config.model), NoBoard(), Closing(lambda: None))
    _, running = loader.load(precision)
    assert running.adoptable is None
    return from_hash({name.encode(): text for name, text in to_hash(running.card).items()})


def test_the_card_says_what_the_file_takes_and_what_runs_it(tmp_path: Path) -> None:
    written(tmp_path, embedding())
    found = card(tmp_path)
    assert (found.family, found.precision, found.device, found.runtime) == ("onnx", "fp32", "cpu", "onnxruntime")
    assert found.tuning is not None
    assert found.tuning.state == "fixed"
    assert found.tuning.reason == "A file is run by onnxruntime unless runtime names openvino."
    assert [one.name for one in found.inputs] == ["ids", "mask"]
    assert found.example is not None
    assert '"name": "mask"' in found.example.body


def test_the_card_says_why_another_runtime_serves(tmp_path: Path) -> None:
    written(tmp_path, doubling(1))
    tuning = card(tmp_path, runtime="cudagraphs").tuning
    assert tuning is not None
    assert tuning.state == "refused"
    assert tuning.reason == (
        "cudagraphs does not run ONNX files; onnxruntime serves. The file fixes its batches at 1 row; a first "
        "dimension that is free lets any number run."
    )


def test_a_precision_is_refused_in_one_sentence(tmp_path: Path) -> None:
    written(tmp_path, doubling())
    with pytest.raises(ModelCannotLoad, match="an ONNX file is run in the precision that it is written in, so bf16"):
        card(tmp_path, precision="bf16")


def test_what_has_no_end_is_refused_at_once(tmp_path: Path) -> None:
    """Whatever is asked of a file before it is read must not wait for it."""
    path = tmp_path / "model.onnx"
    path.symlink_to("/dev/zero")
    with pytest.raises(ModelCannotLoad, match="it is a device"):
        card(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelCannotLoad, match="it is a pipe"):
        card(tmp_path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 42)  # a hole
    with pytest.raises(ModelCannotLoad, match="GiB of memory are free"):
        card(tmp_path)


@pytest.mark.parametrize("key", ["weights", "labels"])
def test_a_file_of_any_family_is_named_without_being_read_for_ever(tmp_path: Path, key: str) -> None:
    keys = {"weights": "random", key: "/dev/zero"}
    table = "".join(f'{name} = "{text}"\n' for name, text in keys.items())
    (tmp_path / "models.toml").write_text(f'[models.file]\nfamily = "timm"\narchitecture = "resnet18"\n{table}')
    config = resolve(Settings.from_env({"HEADRACE_MODELS_FILE": str(tmp_path / "models.toml")}), "file", 0)
    assert fingerprint(config, "cpu")[key] == "/dev/zero"

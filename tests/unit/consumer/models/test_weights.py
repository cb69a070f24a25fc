"""Reading weights: row 40 of the cases of bad input, and weights that do not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from consumer.models import weights
from consumer.models.families import build
from shared.model_config import ModelConfig
from tests.unit.consumer.models.hostile import Hostile


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def built(path: Path) -> None:
    config = ModelConfig(family="torchvision", architecture="resnet18", weights=str(path))
    build("mine", config).load("cpu", "fp32")


@pytest.mark.parametrize("form", ["bare pickle", "torch.save", "inside a state dict"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path, form: str) -> None:
    proof, file = tmp_path / "executed", tmp_path / "model.pt"
    hostile = Hostile(proof)
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile if form == "torch.save" else {"weight": torch.ones(2), "bias": hostile}, file)
    with pytest.raises(ValueError, match="a pickle can run code") as caught:
        built(file)
    assert str(file) in str(caught.value)
    assert not proof.exists()


def test_the_hostile_pickle_would_have_run(tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    pickle.loads(pickle.dumps(Hostile(proof)))
    assert proof.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save(network(), file)
    with pytest.raises(ValueError, match="holds more than weights"):
        weights.read(file)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.onnx", b"x", "weights must be DEFAULT, random, package:NAME or a"),
        ("model.pt", b"", "cannot be read|holds more than weights"),
        ("model.pt", b"not a pickle", "holds more than weights, or is damaged"),
        ("model.safetensors", b"nonsense", "is not a safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        weights.read(file)


def test_a_missing_file_and_a_missing_package_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.pt does not exist"):
        weights.read(tmp_path / "absent.pt")
    for name in ("headrace-test-absent", "../etc", ""):
        with pytest.raises(ValueError, match="is not installed"):
            weights.package_file(name)
    with pytest.raises(ValueError, match="carries 0 files of weights"):
        weights.package_file("msgspec")


@pytest.mark.parametrize("state", [{}, [1], {"a": 5}, {"state_dict": {"weight": 1}}])
def test_something_else_than_a_state_dict_is_refused(tmp_path: Path, state: Any) -> None:
    file = tmp_path / "model.pt"
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"not a (plain )?state dict"):
        weights.read(file)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_state_dict_fills_the_network(tmp_path: Path, suffix: str) -> None:
    source, target, file = network(), network(), tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(source.state_dict(), file)
    else:
        torch.save(source.state_dict(), file)
    weights.fill(target, weights.read(file), "file")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_a_state_dict_that_does_not_fit_is_refused() -> None:
    state = network().state_dict()
    missing = {name: value for name, value in state.items() if name != "3.bias"}
    with pytest.raises(ValueError, match=r"'3\.bias' is missing"):
        weights.fill(network(), missing, "file")
    with pytest.raises(ValueError, match="'extra' is not part of it"):
        weights.fill(network(), {**state, "extra": torch.ones(1)}, "file")
    with pytest.raises(ValueError, match=r"'3\.bias' has shape \[3\] instead of \[2\]"):
        weights.fill(network(), {**state, "3.bias": torch.ones(3)}, "file")


def test_filling_in_order_checks_every_pair() -> None:
    source, target = network(), network()
    state = {
        f"layer{index}.{name.rpartition('.')[2]}": v for index, (name, v) in enumerate(source.state_dict().items())
    }
    weights.fill_in_order(target, state, "package")
    assert torch.equal(target.state_dict()["3.weight"], source.state_dict()["3.weight"])
    swapped = dict(sorted(state.items(), reverse=True))
    with pytest.raises(ValueError, match="does not follow this architecture"):
        weights.fill_in_order(target, swapped, "package")
    with pytest.raises(ValueError, match="holds 8 tensors, but this architecture has 9"):
        weights.fill_in_order(target, dict(list(state.items())[:-1]), "package")
    wrong = {name: torch.ones(7) if name.endswith("running_mean") else value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"has shape \[7\] instead of \[4\]"):
        weights.fill_in_order(target, wrong, "package")

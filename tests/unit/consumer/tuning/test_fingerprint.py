"""What a finding depends on: each thing that changes makes another key, and nothing else does."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumer.config import ConsumerConfig, resolve
from consumer.tuning import fingerprint as module
from consumer.tuning.fingerprint import fingerprint
from shared.model_config import Preprocessing
from shared.settings import Settings


def configured(folder: Path, **settings: str) -> ConsumerConfig:
    """A network with files of its own for all that can be in one."""
    for name, content in (("weights.pt", "w"), ("labels.txt", "cat\ndog"), ("samples/a.png", "a")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(content)
    models = folder / "models.toml"
    models.write_text(
        f'[models.m]\nfamily = "timm"\narchitecture = "resnet18"\nweights = "{folder}/weights.pt"\n'
        f'labels = "{folder}/labels.txt"\nsamples = "{folder}/samples"\n'
    )
    environment = {"HEADRACE_MODELS_FILE": str(models), "HEADRACE_TORCH_THREADS": "2"}
    environment |= {f"HEADRACE_{name}": value for name, value in settings.items()}
    return resolve(Settings.from_env(environment), "m", 0)


def key(folder: Path, **settings: str) -> dict[str, str]:
    return fingerprint(configured(folder, **settings), "cpu")


def test_the_same_is_the_same(tmp_path: Path) -> None:
    first = key(tmp_path)
    os.utime(tmp_path / "weights.pt", (1, 1))
    assert key(tmp_path) == first
    assert key(tmp_path, METRICS_PORT="0", CONSUMERS="2", LEASE_MS="5000", TUNE="off", TUNE_BUDGET_S="5") == first


def test_files_in_another_place_are_the_same_files(tmp_path: Path) -> None:
    """An image, or another machine, has the folder of the models elsewhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    assert key(here) == key(there)


@pytest.mark.parametrize("name", ["weights.pt", "labels.txt", "samples/a.png"])
def test_a_file_that_was_replaced_is_another_one_whatever_its_size_and_time(tmp_path: Path, name: str) -> None:
    first = key(tmp_path)
    path = tmp_path / name
    status = path.stat()
    path.write_bytes(path.read_bytes()[::-1].replace(b"a", b"b").replace(b"w", b"v"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert key(tmp_path) != first


def test_pictures_that_come_or_go_make_other_samples(tmp_path: Path) -> None:
    first = key(tmp_path)
    (tmp_path / "samples" / "b.png").write_text("b")
    assert key(tmp_path) != first
    (tmp_path / "samples" / "b.png").unlink()
    assert key(tmp_path) == first


@pytest.mark.parametrize(
    ("name", "value"),
    [("PRECISION", "bf16"), ("RUNTIME", "torch"), ("MAX_BATCH", "8"), ("BUCKETS", "1,3"), ("TORCH_THREADS", "3")],
)
def test_a_setting_that_decides_makes_another_key(tmp_path: Path, name: str, value: str) -> None:
    assert key(tmp_path, **{name: value}) != key(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet34"},
        {"family": "torchvision"},
        {"weights": "random"},
        {"preprocessing": Preprocessing(crop=192)},
        {"samples": None},
        {"labels": "imagenet-1k"},
    ],
)
def test_another_network_is_another_key(tmp_path: Path, change: dict[str, Any]) -> None:
    config = configured(tmp_path)
    changed = replace(config, model=msgspec.structs.replace(config.model, **change))
    assert fingerprint(changed, "cpu") != fingerprint(config, "cpu")


@pytest.mark.parametrize("library", module.LIBRARIES)
def test_another_version_of_a_library_is_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    first = key(tmp_path)
    known: Callable[[str], str] = importlib.metadata.version

    def version(name: str) -> str:
        return "99.0" if name == library else known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert key(tmp_path) != first


def test_another_version_of_headrace_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = key(tmp_path)
    monkeypatch.setattr(module, "__version__", "99.0")
    assert key(tmp_path) != first


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"])
def test_a_processor_that_may_not_use_all_its_instructions_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(name, raising=False)
    first = key(tmp_path)
    monkeypatch.setenv(name, "AVX2")
    assert key(tmp_path) != first


def test_another_processor_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = key(tmp_path)
    monkeypatch.setattr(module, "processor", lambda: "x86_64 another one")
    assert key(tmp_path) != first


def test_what_is_no_file_stands_for_itself(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.pt"
    os.mkfifo(pipe)  # it is told when it is read; here it must not be waited for
    for source in ("random", "DEFAULT", "package:no_such_package", str(tmp_path), str(tmp_path / "gone.pt"), str(pipe)):
        assert module.content_of(source) == source
    assert module.contents_of(str(tmp_path / "gone")) == str(tmp_path / "gone")

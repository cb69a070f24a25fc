"""What one consumer runs: the environment beats the models file, and a window that is named is meant literally."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from consumer.config import ConsumerConfig, resolve
from shared.settings import Settings, SettingsError


def resolved(folder: Path, table: str = "", **settings: str) -> ConsumerConfig:
    path = folder / "models.toml"
    path.write_text(f'[models.m]\nfamily = "echo"\n{table}\n')
    environment = {f"HEADRACE_{name.upper()}": value for name, value in settings.items()}
    return resolve(dataclasses.replace(Settings.from_env(environment), models_file=str(path)), "m", 0)


@pytest.mark.parametrize(
    ("table", "environment", "policy", "window_ms"),
    [
        ("", {}, "adaptive", 5.0),
        ("window_ms = 2", {}, "window", 2.0),
        ("window_ms = 0", {}, "window", 0.0),
        ("", {"window_ms": "3"}, "window", 3.0),
        ("window_ms = 2", {"window_ms": "3"}, "window", 3.0),
        ('window_ms = 2\nbatch_policy = "adaptive"', {}, "adaptive", 2.0),
        ('batch_policy = "adaptive"', {"window_ms": "0"}, "adaptive", 0.0),
        ('batch_policy = "window"', {}, "window", 5.0),
        ('batch_policy = "window"', {"batch_policy": "adaptive"}, "adaptive", 5.0),
    ],
)
def test_policy_and_window(
    tmp_path: Path, table: str, environment: dict[str, str], policy: str, window_ms: float
) -> None:
    config = resolved(tmp_path, table, **environment)
    assert (config.policy, config.window_ms) == (policy, window_ms)


@pytest.mark.parametrize(
    ("table", "environment", "runtime"),
    [
        ("", {}, "auto"),
        ('runtime = "openvino"', {}, "openvino"),
        ('runtime = "openvino"', {"runtime": "torch"}, "torch"),
    ],
)
def test_the_environment_beats_the_runtime_of_the_table(
    tmp_path: Path, table: str, environment: dict[str, str], runtime: str
) -> None:
    assert resolved(tmp_path, table, **environment).model.runtime == runtime


def test_buckets_end_at_the_largest_batch(tmp_path: Path) -> None:
    assert resolved(tmp_path).buckets == (1, 2, 4, 8, 16, 32)
    assert resolved(tmp_path, "buckets = [4, 16, 64]", max_batch="24").buckets == (4, 16, 24)
    assert resolved(tmp_path, "buckets = [4, 16]", buckets="3", max_batch="8").buckets == (3, 8)
    assert resolved(tmp_path, max_batch="1").buckets == (1,)


def test_a_window_of_the_models_file_is_held_to_the_lease(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="window_ms of model m"):
        resolved(tmp_path, "window_ms = 10_000")


@pytest.mark.parametrize(
    ("text", "name"), [("my_model.py:MyFlowers", "my-flowers"), ("roses=my_model.py:MyFlowers", "roses")]
)
def test_a_model_of_ones_own_needs_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text("")
    config = resolve(Settings(), text, 0)
    assert config.model_name == name
    assert (config.model.family, config.model.entry) == ("python", f"{tmp_path}/my_model.py:MyFlowers")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("m=my_model.py:Flowers", "--model: there is a model 'm' already; write NAME=FILE.py:CLASS."),
        ("absent.py:Flowers", "--model: there is no file absent.py."),
        ("my_model.py:", "--model must read FILE.py:CLASS or NAME=FILE.py:CLASS"),
        ("my_model.py", "Model 'my_model.py' is not in models.toml; it has m."),
    ],
)
def test_a_wrong_model_of_ones_own_gets_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text("")
    (tmp_path / "models.toml").write_text('[models.m]\nfamily = "echo"\n')
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        resolve(Settings(), text, 0)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.models.base import Model
from consumer.models.families import build
from shared import model_config
from shared.model_config import ModelConfig

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shipped() -> dict[str, ModelConfig]:
    return model_config.load(ROOT / "models.toml")


@pytest.fixture(scope="session")
def imagenet(shipped: dict[str, ModelConfig], _one_thread: None) -> Model:
    return _loaded("imagenet", shipped)


@pytest.fixture(scope="session")
def mobilenet(shipped: dict[str, ModelConfig], _one_thread: None) -> Model:
    return _loaded("bench-mobilenet", shipped)


def _loaded(name: str, shipped: dict[str, ModelConfig]) -> Model:
    model = build(name, shipped[name])
    model.load("cpu", "fp32")
    return model

"""A language model takes the threads that it is given, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.models.generate.generate_family import build
from shared.model_config import ModelConfig
from tests.unit.consumer.generation.test_model_files import saved


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_step_has_the_threads_of_the_settings(tmp_path: Path) -> None:
    import torch

    for threads in (1, 2):
        model = build(ModelConfig(family="generate", weights=str(saved(tmp_path))), threads)
        torch.set_num_threads(3 - threads)
        model.load("cpu", "fp32")
        assert torch.get_num_threads() == threads
        model.close()

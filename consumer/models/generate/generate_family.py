"""Family ``generate``: which engine and which tokens a table of ``models.toml`` asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumer.models import installed
from consumer.models.base import Model
from shared.model_config import ModelConfig
from shared.settings import Settings

from . import null
from .generator import Generator, Opened

NULL = "null"
SIZES = ("slots", "context")
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
"""Those that ``auto`` tries, by device."""

ENGINE = "engine"
SLOTS, VLLM = "slots", "vllm"
PACKAGES = {
    SLOTS: installed.TEXT,
    "transformers": installed.TEXT,
    "openvino": ("openvino-genai", (*installed.TEXT[1], "openvino_genai")),
    VLLM: None,
}
"""The engines, and the dependency group and modules that each needs; vLLM's pins exclude those of all groups."""


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; nothing heavy happens before its ``load``.

    Args:
        threads: of torch, for one step.

    Raises:
        ValueError: there is nothing to generate with, packages are not installed, or an option is wrong.
    """
    if config.architecture == NULL:
        return null.build(config.options)
    if config.architecture is not None:
        raise ValueError(f"family 'generate' has no architecture {config.architecture!r}: leave it out, or say 'null'.")
    weights = config.weights
    if not weights:
        raise ValueError("family 'generate' needs weights: a folder, a GGUF file or package:NAME.")
    sizes, engine = _sizes(config.options), _engine(config.options)

    def open_model(device: str, precision: str) -> Opened:
        import torch

        from consumer.generation.weights.opening import open_model as opened  # with transformers

        if device == "cpu":
            torch.set_num_threads(threads)  # else it takes every core, also those of whoever brings the requests
        folder = Path(Settings.from_env(os.environ).data_dir).absolute()
        return opened(weights, folder, device=device, precision=precision, engine=engine, **sizes)

    return Generator(open_model, lambda device: PRECISIONS[device] if engine == SLOTS else ("fp32",), engine)


def _sizes(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes that a table names.

    Raises:
        ValueError: an option is unknown, or its value is wrong.
    """
    sizes = {}
    for name, value in options.items():
        if name not in (*SIZES, ENGINE):
            raise ValueError(f"there is no option {name!r}; family 'generate' has {', '.join((*SIZES, ENGINE))}.")
        if name == ENGINE:
            continue
        if type(value) is not int or value < 1:
            raise ValueError(f"option {name} must be a whole number of at least 1, not {value!r}.")
        sizes[name] = value
    return sizes


def _engine(options: Mapping[str, Any]) -> str:
    """Return the engine that a table names; where it names none, Headrace's own.

    Raises:
        ValueError: there is none of this name, or its packages are not installed.
    """
    name = options.get(ENGINE, SLOTS)
    if not isinstance(name, str) or name not in PACKAGES:
        raise ValueError(f"option {ENGINE} must be one of {', '.join(PACKAGES)}, not {str(name)[:80]!r}.")
    needed = PACKAGES[name]
    if needed is not None:
        installed.require(*needed)
    elif not installed.is_there(VLLM):
        raise ValueError("engine 'vllm' needs vLLM, which has an environment or an image of its own: docs/engines.md.")
    return name

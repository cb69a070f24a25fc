"""From a ``models.toml`` table to a model. Families are imported only when asked for, so that echo needs no torch."""

from __future__ import annotations

from shared.model_config import FAMILIES, ModelConfig

from .base import Model
from .load_errors import told_as_the_models


def build(name: str, config: ModelConfig, threads: int = 1) -> Model:
    """Make the model that ``config`` describes; nothing heavy happens before its ``load``.

    Args:
        name: the model's name in ``models.toml``, for messages.
        threads: for one batch, where the model does not take torch's.

    Raises:
        ModelCannotLoad: the table cannot become a model; one sentence that names the model and the reason.
    """
    with told_as_the_models(name):
        return _build(config, threads)


def _build(config: ModelConfig, threads: int) -> Model:
    if config.family == "echo":
        from .echo import Echo

        return Echo()
    if config.family == "python":
        from .own import python_family

        return python_family.build(config)
    if config.family == "onnx":
        from .onnx import onnx_family

        return onnx_family.build(config, threads)
    if config.family not in FAMILIES:
        raise ValueError(f"there is no family {config.family!r}; the families are {', '.join(FAMILIES)}.")
    from .vision.classifier import Classifier

    if config.family == "timm":
        from .vision import timm

        return Classifier(config, timm.build_network)
    from .vision import torchvision

    return Classifier(config, torchvision.build_network)

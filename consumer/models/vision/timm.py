"""Family ``timm``: an architecture of the timm library with weights from a package, a file or a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from consumer.models import weights
from consumer.models.base import Model
from consumer.runtimes import labels, random_weights
from consumer.runtimes.network import CLASSES, Network, calibrate_random, checked, declared_labels
from shared.model_config import ModelConfig, Preprocessing

from .classifier import Classifier
from .without_compiler import without_compiler

if TYPE_CHECKING:
    from torch import Tensor, nn


def build(config: ModelConfig, threads: int) -> Model:
    """Make the classifier; its network is built when it is loaded, and takes torch's threads."""
    return Classifier(config, build_network)


def build_network(config: ModelConfig) -> Network:
    """Build and fill the network that ``config`` names.

    Weights of a package may have names of their own: they are then filled in order, shape by shape.

    Raises:
        ValueError: unknown architecture, or weights that are missing or do not fit.
    """
    with without_compiler():
        import timm

    architecture, source = config.architecture or "", config.weights or ""
    if architecture not in timm.list_models():
        raise ValueError(f"timm {timm.__version__} has no architecture {architecture!r}.")
    if source == "DEFAULT":
        raise ValueError("family 'timm' takes its weights from package:NAME, a file or random, not DEFAULT.")
    names = declared_labels(config)
    classes = len(names) if names else CLASSES
    module = random_weights.construct(lambda: timm.create_model(architecture, pretrained=False, num_classes=classes))
    module.eval()
    preprocessing = checked(config.preprocessing or _own_preprocessing(module))
    if source == "random":
        calibrate_random(module, preprocessing)
    elif source.startswith("package:"):
        _fill_from_package(module, source.removeprefix("package:"))
    else:
        weights.fill(module, weights.read(Path(source)), source)
    warnings = (random_weights.WARNING,) if source == "random" else ()
    return Network(module, preprocessing, names or labels.numbered(classes), warnings, _simplified)


def _simplified(module: nn.Module, pictures: Tensor) -> nn.Module:
    from consumer.runtimes.pytorch import timm_layers

    return timm_layers.simplified(module, pictures)


def _fill_from_package(module: nn.Module, name: str) -> None:
    state = weights.read(weights.package_file(name))
    fill = weights.fill if set(state) == set(module.state_dict()) else weights.fill_in_order
    fill(module, state, f"package:{name}")


def _own_preprocessing(module: nn.Module) -> Preprocessing:
    """Take the sizes and statistics that timm notes for the architecture."""
    from timm.data.config import resolve_model_data_config

    own = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    crop = own["input_size"][-1]
    return Preprocessing(
        resize=int(crop / own["crop_pct"]),
        crop=crop,
        interpolation=own["interpolation"],
        mean=own["mean"],
        std=own["std"],
    )

"""Family ``torchvision``: any of its classification models, pretrained, from a file, or random for benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.models import weights
from consumer.models.base import Model
from consumer.runtimes import labels, random_weights
from consumer.runtimes.network import CLASSES, Network, calibrate_random, checked, declared_labels
from shared.model_config import ModelConfig, Preprocessing

from .classifier import Classifier
from .without_compiler import without_compiler

if TYPE_CHECKING:
    from torch import nn


def build(config: ModelConfig, threads: int) -> Model:
    """Make the classifier; its network is built when it is loaded, and takes torch's threads."""
    return Classifier(config, build_network)


def build_network(config: ModelConfig) -> Network:
    """Build and fill the network that ``config`` names.

    Raises:
        ValueError: not a classification model of torchvision, or weights that are missing or do not fit.
    """
    with without_compiler():
        import torchvision

    architecture, source = config.architecture or "", config.weights or ""
    if architecture not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"torchvision {torchvision.__version__} has no classification model {architecture!r}.")
    default = torchvision.models.get_model_weights(architecture)["DEFAULT"]
    preprocessing = checked(config.preprocessing or _of_weights(default))
    names = declared_labels(config)
    if source == "DEFAULT":
        module, names = _pretrained(architecture, default), names or tuple(default.meta["categories"])
        return Network(module, preprocessing, names)
    classes = len(names) if names else CLASSES
    module = random_weights.construct(lambda: _construct(architecture, classes))
    if source == "random":
        calibrate_random(module, preprocessing)
        return Network(module, preprocessing, names or labels.numbered(classes), (random_weights.WARNING,))
    weights.fill(module, weights.read(Path(source)), source)
    return Network(module, preprocessing, names or labels.numbered(classes))


def _construct(architecture: str, classes: int) -> nn.Module:
    import torchvision

    # Two architectures carry extra heads that only training uses, and warn about their slow random start.
    special: dict[str, Any] = {"aux_logits": True, "init_weights": True} if _has_helpers(architecture) else {}
    module: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=classes, **special)
    return module.eval()


def _has_helpers(architecture: str) -> bool:
    return architecture in ("googlenet", "inception_v3")


def _pretrained(architecture: str, default: Any) -> nn.Module:
    """Take the weights from torch's cache, or from where torchvision publishes them; the file's hash is checked."""
    import torch

    try:
        state = default.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights {default} are not in {torch.hub.get_dir()} and could not be fetched from {default.url}: "
            f"{error}; fetch them on another machine, or give a file or 'random' as weights."
        ) from error
    module = _construct(architecture, len(default.meta["categories"]))
    weights.fill(module, weights.checked(state, str(default)), str(default))
    return module


def _of_weights(default: Any) -> Preprocessing:
    """Take sizes and statistics from the transforms that belong to a set of weights."""
    own = default.transforms()
    return Preprocessing(
        resize=own.resize_size[0],
        crop=own.crop_size[0],
        interpolation=own.interpolation.value,
        mean=tuple(own.mean),
        std=tuple(own.std),
    )

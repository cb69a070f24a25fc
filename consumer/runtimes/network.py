"""What a family hands to the classifier: a network on the CPU in fp32, and what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.models.pictures import images, samples
from shared.model_config import ModelConfig, Preprocessing

from . import labels, random_weights
from .spec import ClassifierSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded network.

    Attributes:
        module: takes normalised float (n, 3, crop, crop), gives logits (n, classes); in evaluation mode.
        preprocessing: how pictures become rows.
        labels: one name per class.
        warnings: sentences for every answer.
        simplify: takes ``module`` and normalised pictures, returns an equal network whose layers are torch's own;
            None when they are so already.
    """

    module: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    simplify: Callable[[nn.Module, Tensor], nn.Module] | None = None

    @property
    def spec(self) -> ClassifierSpec:
        """What is left of it without its module."""
        return ClassifierSpec(self.preprocessing, self.labels, self.warnings)


def checked(preprocessing: Preprocessing) -> Preprocessing:
    """Return ``preprocessing`` if it can be done, so that contradictions do not wait for the first request.

    Raises:
        ValueError: it cannot.
    """
    if preprocessing.interpolation not in images.INTERPOLATIONS:
        raise ValueError(
            f"preprocessing.interpolation must be one of {', '.join(images.INTERPOLATIONS)}, "
            f"not {preprocessing.interpolation!r}."
        )
    if preprocessing.crop > preprocessing.resize:
        raise ValueError(
            f"preprocessing.crop ({preprocessing.crop}) must not be larger than resize ({preprocessing.resize})."
        )
    if min(preprocessing.std) <= 0:
        raise ValueError("preprocessing.std must be three numbers above 0.")
    return preprocessing


def declared_labels(config: ModelConfig) -> tuple[str, ...] | None:
    """Return the labels that the table names, or None when it names none."""
    return None if config.labels is None else labels.read(config.labels)


def calibrate_random(module: nn.Module, preprocessing: Preprocessing) -> None:
    """Bring random weights to outputs of unit scale, see ``random_weights``."""
    random_weights.calibrate(module, _normalised(preprocessing))


def normalised_samples(network: Network, rows: Sequence[NDArray[np.uint8]] = ()) -> Tensor:
    """Return pictures as the network takes them: float32 (n, 3, side, side).

    Args:
        rows: uint8 (side, side, 3); made ones if there are none.
    """
    return _normalised(network.preprocessing, rows)


def _normalised(preprocessing: Preprocessing, rows: Sequence[NDArray[np.uint8]] = ()) -> Tensor:
    import numpy as np
    import torch

    side = preprocessing.crop
    rows = rows or samples.pictures(random_weights.CALIBRATION_ROWS, side, side)
    pixels = np.stack(rows).astype(np.float32) / 255
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(0, 3, 1, 2)

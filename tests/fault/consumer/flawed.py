"""A network of torch that raises when a white picture is among its rows; the answers are its logits, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consumer.models.base import Model, Result
from consumer.models.vision import torchvision
from consumer.models.vision.classifier import Classifier
from shared.model_config import ModelConfig, Preprocessing
from shared.wire.messages import Request, Tensor
from tests.helpers import write_models_file

SIDE = 64
WHITE = b"\xff" * (SIDE * SIDE * 3)


class Flawed(Classifier):
    """See the module."""

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Raise if a row is white."""
        if any(row.min() == 255 for row in rows):
            raise ZeroDivisionError("as told")
        return super().run(rows)

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """All logits."""
        logits = np.asarray(outputs, dtype=np.float32)
        return Result(outputs=(Tensor("logits", "FP32", logits.shape, logits.tobytes()),))


def create(options: dict[str, Any]) -> Model:
    """Make one, with random weights that are the same each time."""
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE)
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random", max_batch=8, preprocessing=preprocessing)
    return Flawed(config, torchvision.build_network)


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with this model under ``name``."""
    return write_models_file(folder, name, "tests.fault.consumer.flawed:create")

"""A model of your own: which named colour is a picture's mean colour nearest to?

Its table in models.toml, after which ``HEADRACE_MODELS=colour make up`` serves it:

    [models.colour]
    family = "python"
    entry = "examples.custom_model:create"
    options = { places = 2 }
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.model import (
    IMAGES,
    UNSUPPORTED_MEDIA_TYPE,
    Description,
    Model,
    Prediction,
    Request,
    RequestError,
    Result,
    TensorSpec,
    decode_image,
)

COLOURS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "red": (200, 30, 30)}
COLOURS |= {"green": (40, 160, 60), "blue": (40, 70, 200), "yellow": (230, 210, 50), "brown": (120, 75, 40)}
SIDE = 64


class MeanColour(Model):
    def __init__(self, places: int) -> None:
        self.places = places

    def describe(self) -> Description:
        distances = TensorSpec("distances", "FP32", (len(COLOURS),))
        return Description((TensorSpec("input", "UINT8", (SIDE, SIDE, 3)),), (distances,), IMAGES, tuple(COLOURS))

    def load(self, device: str, precision: str) -> None:  # weights are read here, and moved to the device
        self.palette = np.array(list(COLOURS.values()), np.float32)

    def preprocess(self, request: Request) -> Sequence[Any]:  # one request in, one or more rows out
        if request.body is None or request.content_type not in IMAGES:
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "This model takes pictures only.")
        return [decode_image(request.body, resize=SIDE, crop=SIDE, interpolation="bilinear")]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:  # the rows of many requests in, one output per row out
        means = np.stack(rows).mean(axis=(1, 2), dtype=np.float32)
        return list(np.linalg.norm(means[:, None] - self.palette, axis=2))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:  # one request's outputs in, answer out
        shares = np.exp(-outputs[0] / 40) / np.exp(-outputs[0] / 40).sum()
        best = np.argsort(-shares)[: self.places].tolist()
        return Result(predictions=[Prediction(list(COLOURS)[i], i, float(shares[i])) for i in best])

    def sample_rows(self, count: int) -> Sequence[Any]:
        return [np.full((SIDE, SIDE, 3), 25 * (i % 10), np.uint8) for i in range(count)]


def create(options: dict[str, Any]) -> Model:
    return MeanColour(places=options.get("places", 3))

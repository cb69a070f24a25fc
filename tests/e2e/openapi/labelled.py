"""A classifier of three labels that takes any bytes, and gives its scores as a tensor to clients that ask for it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.models.base import RAW, Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Prediction, Request, Tensor

SHARES = (0.5, 0.3, 0.2)


class Labelled(Model):
    """Its answer is always the same."""

    def load(self, device: str, precision: str) -> None:
        """There is nothing to load."""

    def describe(self) -> Description:
        """See the interface."""
        inputs = (TensorSpec("pixels", "UINT8", (2, 2)),)
        outputs = (TensorSpec("scores", "FP32", (len(SHARES),)),)
        return Description(inputs, outputs, (RAW, "image/png"), ("cat", "dog", "goldfish"), gives_tensors=True)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """See the interface."""
        return [0] * (request.inputs[0].shape[0] if request.inputs else 1)

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """See the interface."""
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface."""
        if request.params.get("answer") == "tensors":
            data = struct.pack("<3f", *SHARES) * len(outputs)
            return Result(outputs=(Tensor("scores", "FP32", (len(outputs), len(SHARES)), data),))
        most = request.params.get("top_k", len(SHARES))
        assert isinstance(most, int)
        labels = ("cat", "dog", "goldfish")[:most]
        return Result(
            predictions=tuple(
                Prediction(label, index, SHARES[index], row)
                for row in range(len(outputs))
                for index, label in enumerate(labels)
            )
        )

    def sample_rows(self, count: int) -> Sequence[Any]:
        """See the interface."""
        return [0] * count


def create(options: Mapping[str, Any]) -> Model:
    """Make one."""
    return Labelled()

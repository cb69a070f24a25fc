"""A model of one's own on torch, in fp32 and bf16: one layer, whose weights are exact in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

WIDTH = 16
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class SmallNetwork(Model):
    """Doubles its numbers, a byte each."""

    def load(self, device: str, precision: str) -> None:
        """Make the layer."""
        self._dtype = DTYPES[precision]
        self._weights = (2 * torch.eye(WIDTH)).to(self._dtype)

    def precisions(self, device: str) -> Sequence[str]:
        """Both."""
        return tuple(DTYPES)

    def describe(self) -> Description:
        """Bytes in, numbers out."""
        return Description((TensorSpec("x", "UINT8", (WIDTH,)),), (TensorSpec("y", "FP32", (WIDTH,)),))

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row."""
        return [torch.tensor(list(request.body or b""), dtype=torch.float32)]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Multiply."""
        with torch.inference_mode():
            outputs: torch.Tensor = torch.stack(list(rows)).to(self._dtype) @ self._weights
            return list(outputs.float().numpy())

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The numbers."""
        return Result(outputs=(Tensor("y", "FP32", (1, WIDTH), outputs[0].tobytes()),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Numbers that bf16 holds exactly."""
        return [torch.arange(WIDTH, dtype=torch.float32) + row for row in range(count)]

    def decodes(self, request: Request) -> bool:
        """Nothing is decoded."""
        return False


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return SmallNetwork()

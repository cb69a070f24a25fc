"""A network as an ONNX file that takes pictures as they come: the bytes of pixels in, logits out.

Reordering, converting to floats and normalising are part of the file. So whatever runs it needs no code of ours, and
does these steps in its own threads beside the first layers.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from consumer.models import half
from consumer.models.network import Network, normalised_samples

from .base import CannotRun

INPUT, OUTPUT = "input", "logits"
OPSET = 18
"""Of ONNX. Every runtime here knows it; a newer one would only shut out older runtimes."""


class FromBytes(nn.Module):
    """A network with its normalisation in front: uint8 (n, side, side, 3) to float32 logits (n, classes)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, module: nn.Module, network: Network) -> None:
        super().__init__()
        self.module = module
        mean, std = torch.tensor(network.preprocessing.mean), torch.tensor(network.preprocessing.std)
        self.register_buffer("mean", (mean * 255).view(1, 3, 1, 1))
        self.register_buffer("scale", (1 / (std * 255)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise and run."""
        pictures = pixels.permute(0, 3, 1, 2).to(torch.float32)
        logits: Tensor = self.module((pictures - self.mean) * self.scale)
        return logits


def to_onnx(network: Network, path: Path, for_bf16: bool = False) -> None:
    """Write ``network`` to ``path``.

    Args:
        for_bf16: with weights that bf16 can hold, and biases that make up for the rounding (``half.py``): a runtime
            that computes in bf16 then loses nothing when it rounds them. The file itself is in float32.

    Raises:
        CannotRun: it cannot be exported.
    """
    try:
        module = network.module
        if for_bf16:
            module = half.prepared(network, torch.bfloat16, normalised_samples(network)).float()
        whole = FromBytes(module, network).eval()
        side = network.preprocessing.crop
        example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
        with warnings.catch_warnings(), torch.inference_mode(), _quiet():
            warnings.simplefilter("ignore")  # the exporter's remarks on itself and on shapes that it takes for constant
            torch.onnx.export(
                whole,
                (example,),
                str(path),
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
                opset_version=OPSET,
            )
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:300].rstrip(".")
        raise CannotRun(f"it cannot be exported to ONNX: {said or type(error).__name__}.") from error


class _quiet:
    """Keeps the exporter from logging."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)

"""Runs a network over batches of uint8 pixels on one device in one precision. Everything here is the torch thread's.

On the CPU a batch costs, besides the network, one copy of its bytes and two passes over a flat float buffer: the mean
and the scale are laid out as rows of the picture's size, because broadcasting three numbers over the last dimension
takes eight times as long. The result is viewed as channels-last, so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import half
from .network import Network

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check(device: str, precision: str) -> None:
    """Refuse what cannot run, before any weights are read.

    Raises:
        ValueError: one sentence with the reason and advice.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"the device must be cpu or cuda, not {device!r}.")
    if precision not in _DTYPES:
        raise ValueError(f"precision must be one of {', '.join(_DTYPES)}, not {precision!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("the device cuda was asked for, but torch sees no usable GPU; use HEADRACE_DEVICE=cpu.")
    if device == "cpu" and precision in ("fp16", "tf32"):
        why = "is slow and often inexact" if precision == "fp16" else "does not exist"
        raise ValueError(f"precision {precision} {why} on a CPU; use bf16 or fp32.")


class Runner:
    """A network on its device with the buffers it needs; ``run`` allocates no buffer of a batch's size for input."""

    def __init__(self, network: Network, device: str, precision: str, max_batch: int) -> None:
        self._device = torch.device(device)
        self._dtype = _DTYPES[precision]
        if device == "cuda":
            _set_tf32(precision == "tf32")
        self._side = network.preprocessing.crop
        pixels = self._side * self._side
        mean = torch.tensor(network.preprocessing.mean, dtype=torch.float32) * 255
        scale = 1 / (torch.tensor(network.preprocessing.std, dtype=torch.float32) * 255)
        self._mean = mean.repeat(pixels).to(self._device)
        self._scale = scale.repeat(pixels).to(self._device)
        module = half.converted(network.module, self._dtype)
        self._module = module.eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._allocate(max_batch)

    def run(self, rows: Sequence[NDArray[np.uint8]]) -> Any:
        """Return the logits of ``rows``.

        Args:
            rows: uint8 arrays of shape (side, side, 3); more than the declared batch enlarges the buffers for good.

        Returns:
            float32 numpy array of shape (len(rows), classes).

        Raises:
            RuntimeError: the network's output is not (rows, classes).
        """
        count = len(rows)
        if count > len(self._staging):
            self._allocate(count)
        np.stack(rows, out=self._staging[:count])
        with torch.inference_mode():
            logits = self._module(self._normalised(count))
            if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != count:
                raise RuntimeError("The network did not give one row of logits per picture.")
            return logits.float().cpu().numpy()

    def _allocate(self, count: int) -> None:
        shape = (count, self._side * self._side * 3)
        cuda = self._device.type == "cuda"
        # Pinned once: pinning per batch costs more than the transfer it speeds up.
        self._bytes = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
        self._staging: NDArray[np.uint8] = self._bytes.numpy().reshape(count, self._side, self._side, 3)
        self._floats = torch.empty(shape, dtype=torch.float32, device=self._device)

    def _normalised(self, count: int) -> torch.Tensor:
        """Move the first ``count`` staged rows to the device and normalise them: (n, 3, side, side), channels last."""
        pixels = self._bytes[:count].to(self._device, non_blocking=True)
        floats = self._floats[:count]
        floats.copy_(pixels)
        floats.sub_(self._mean).mul_(self._scale)
        return floats.to(self._dtype).view(count, self._side, self._side, 3).permute(0, 3, 1, 2)


def _set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 for this process; torch's own default allows it for convolutions."""
    value = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = value
    torch.backends.cudnn.conv.fp32_precision = value  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = value  # type: ignore[attr-defined]

"""Runs a network over batches of uint8 pixels on the CPU. Everything here is the torch thread's.

Pictures are prepared one by one, in a buffer that fits the processor's cache: bytes to floats, minus the mean, times
the scale, and into the batch in the network's datatype. Mean and scale are laid
out as rows of the picture's size, because broadcasting three numbers over the last dimension takes eight times as
long. The batch is viewed as channels-last, so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from consumer.runtimes.network import Network, normalised_samples
from consumer.runtimes.oom_splitting import OomSplitting
from consumer.runtimes.row_ring import RowRing

from . import half_precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class CpuRunner:
    """A network on the CPU with its buffers.

    Args:
        wrap: called with the module that is ready to run; what it returns is run.
    """

    # Putting 32 rows together takes a hundredth of the time that they are computed in.
    ring: RowRing | None = None
    busy_s: float | None = None
    padded_rows: int = 0

    def __init__(
        self,
        network: Network,
        precision: str,
        max_batch: int,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        dtype = _DTYPES[precision]
        self._side = network.preprocessing.crop
        pixels = self._side * self._side
        self._mean = (torch.tensor(network.preprocessing.mean, dtype=torch.float32) * 255).repeat(pixels)
        self._scale = (1 / (torch.tensor(network.preprocessing.std, dtype=torch.float32) * 255)).repeat(pixels)
        module = network.module
        if dtype != torch.float32:
            module = half_precision.prepared(network, dtype, normalised_samples(network))
        self._module = wrap(module.to(memory_format=torch.channels_last).eval())
        self._bytes = torch.empty(pixels * 3, dtype=torch.uint8)
        self._staging: NDArray[np.uint8] = self._bytes.numpy().reshape(self._side, self._side, 3)
        self._floats = torch.empty(pixels * 3, dtype=torch.float32)
        self._batch = torch.empty((max_batch, pixels * 3), dtype=dtype)
        self._in_parts = OomSplitting(self._run_part, max_batch)

    def run(self, rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the logits of ``rows``: float32, shape (len(rows), classes).

        Args:
            rows: uint8 arrays of shape (side, side, 3); more than the declared batch are run in parts.

        Raises:
            RuntimeError: the network's output is not (rows, classes).
        """
        return self._in_parts(rows)

    def computed_rows(self, rows: int) -> int:
        """Return ``rows``: nothing is filled up."""
        return rows

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once since memory ran out; None while it never did."""
        return self._in_parts.working_rows

    def _run_part(self, rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        count = len(rows)
        with torch.inference_mode():
            for index, row in enumerate(rows):
                self._prepare(row, self._batch[index])
            pictures = self._batch[:count].view(count, self._side, self._side, 3).permute(0, 3, 1, 2)
            logits = self._module(pictures)
            if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != count:
                raise RuntimeError("The network did not give one row of logits per picture.")
            outputs: NDArray[np.float32] = logits.to(torch.float32, copy=True).numpy()
            return outputs

    def _prepare(self, row: NDArray[np.uint8], place: torch.Tensor) -> None:
        np.copyto(self._staging, row)
        floats = place if place.dtype == torch.float32 else self._floats
        floats.copy_(self._bytes)
        floats.sub_(self._mean)
        floats.mul_(self._scale)
        if floats is not place:
            place.copy_(floats)

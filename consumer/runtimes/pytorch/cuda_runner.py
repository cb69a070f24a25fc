"""Runs a network over batches of uint8 pixels on an NVIDIA GPU. Everything here is the torch thread's.

Each of three slots has a pinned input, static tensors on the device and a pinned output, so that a copy to the device,
the computation and a copy back can be under way at once, on streams of their own that wait for one another by events.
Nothing is pinned or allocated per batch. Bytes become numbers, are normalised and go through the network in one CUDA
graph for each size of batch (a bucket); a batch is padded to the next bucket.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from consumer.batching.buckets import GPU_SIZES, bucket_of, buckets
from consumer.runtimes.network import Network, normalised_samples
from consumer.runtimes.oom_splitting import OomSplitting, is_out_of_memory
from consumer.runtimes.row_ring import RowRing

from . import half_precision

log = logging.getLogger(__name__)

SLOTS = 3
RING_BATCHES = 4  # one that runs, one that is committed, one that waits, one that is filled
_WARM_UPS = 3  # before a capture: libraries choose their algorithms and allocate workspaces
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class _Slot:
    """The buffers of one batch in flight, and the events that its three parts signal."""

    def __init__(self, rows: int, row_bytes: int, device: torch.device) -> None:
        self.staged = torch.zeros((rows, row_bytes), dtype=torch.uint8, pin_memory=True)
        self.pixels = torch.zeros((rows, row_bytes), dtype=torch.uint8, device=device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.logits: dict[int, torch.Tensor] = {}
        self.answers: torch.Tensor | None = None
        self.copied, self.returned = _event(), _event()
        self.begun, self.computed = _event(timed=True), _event(timed=True)


def _event(timed: bool = False) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]


class CudaRunner:
    """A network on the GPU with its buffers, streams and graphs.

    Args:
        uses_graphs: whether batches are replayed from graphs that are recorded here, one for each bucket.
        wrap: called with the module that is ready on the device; what it returns is run.

    Raises:
        RuntimeError: not even a batch of one fits into the GPU's memory, or a graph cannot be captured.
    """

    def __init__(
        self,
        network: Network,
        precision: str,
        max_batch: int,
        uses_graphs: bool = False,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        set_tf32(precision == "tf32")
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._dtype = _DTYPES[precision]
        self._side = network.preprocessing.crop
        pixels = self._side * self._side
        mean = torch.tensor(network.preprocessing.mean, dtype=torch.float32) * 255
        scale = 1 / (torch.tensor(network.preprocessing.std, dtype=torch.float32) * 255)
        self._mean = mean.repeat(pixels).to(self._device)
        self._scale = scale.repeat(pixels).to(self._device)
        # The plain network belongs to the caller, and stays where it is.
        module = half_precision.prepared(network, self._dtype, normalised_samples(network))
        self._module = wrap(module.to(memory_format=torch.channels_last).eval().to(self._device))
        self._in, self._compute, self._out = (_stream(self._device) for _ in range(3))
        self._slots = deque(_Slot(max_batch, pixels * 3, self._device) for _ in range(SLOTS))
        self._waiting = torch.zeros((max_batch * RING_BATCHES, pixels * 3), dtype=torch.uint8, pin_memory=True)
        self.ring: RowRing | None = RowRing(self._waiting.numpy().reshape(-1, self._side, self._side, 3))
        self._buckets = buckets(max_batch, GPU_SIZES)
        self.busy_s: float | None = 0.0
        """Between events on the stream that computes; copies are not counted."""
        self.padded_rows = 0
        torch.cuda.synchronize()  # what was made so far was made on another stream
        if uses_graphs:
            self._capture_all()
        self._in_parts = OomSplitting(self._run_part, self._buckets[-1], recover=_release_cached)

    def run(self, rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the logits of ``rows``: float32, shape (len(rows), classes), as a fresh array.

        Args:
            rows: uint8 arrays of shape (side, side, 3); more than the declared batch are run in parts.

        Raises:
            RuntimeError: the network's output is not (rows, classes), or one row is too much for the memory.
        """
        return self._in_parts(rows)

    def computed_rows(self, rows: int) -> int:
        """Return the bucket of a batch of ``rows``."""
        return bucket_of(rows, self._buckets) if rows <= self._buckets[-1] else rows

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once since memory ran out; None while it never did."""
        return self._in_parts.working_rows

    def _run_part(self, rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        slot = self._slots[0]
        self._slots.rotate(-1)
        self._start(slot, rows)
        slot.returned.synchronize()
        self.busy_s = (self.busy_s or 0.0) + slot.begun.elapsed_time(slot.computed) / 1000
        assert slot.answers is not None  # made by _start
        return slot.answers[: len(rows)].numpy().copy()

    def _start(self, slot: _Slot, rows: Sequence[NDArray[np.uint8]]) -> None:
        """Queue the copy in, the computation and the copy out; returns before they are done."""
        bucket = bucket_of(len(rows), self._buckets)
        self.padded_rows += bucket - len(rows)
        slot.returned.synchronize()  # the previous batch in this slot has its answers
        staged = self._side_by_side(slot, rows)
        with torch.inference_mode():
            with torch.cuda.stream(self._in):
                slot.pixels[: len(rows)].copy_(staged, non_blocking=True)
                slot.copied.record(self._in)
            with torch.cuda.stream(self._compute):
                self._compute.wait_event(slot.copied)
                slot.begun.record(self._compute)
                logits = self._logits(slot, bucket)
                slot.computed.record(self._compute)
            if slot.answers is None or slot.answers.shape[1] != logits.shape[1]:
                shape = (len(slot.staged), logits.shape[1])
                slot.answers = torch.empty(shape, dtype=torch.float32, pin_memory=True)
            with torch.cuda.stream(self._out):
                self._out.wait_event(slot.computed)
                if bucket not in slot.graphs:
                    logits.record_stream(self._out)  # its memory is not reused before it was copied
                slot.answers[: len(rows)].copy_(logits[: len(rows)], non_blocking=True)
                slot.returned.record(self._out)

    def _side_by_side(self, slot: _Slot, rows: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return the rows in pinned memory: as they lie in the ring if they are neighbours there, else a copy."""
        first = self.ring.first_slot(rows) if self.ring is not None else None
        if first is not None:
            return self._waiting[first : first + len(rows)]
        staging = slot.staged.numpy().reshape(-1, self._side, self._side, 3)
        for index, row in enumerate(rows):
            staging[index] = row
        return slot.staged[: len(rows)]

    def _logits(self, slot: _Slot, bucket: int) -> torch.Tensor:
        captured = slot.graphs.get(bucket)
        if captured is not None:
            captured.replay()
            return slot.logits[bucket]
        return self._forward(slot.pixels[:bucket])

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn bytes (n, side * side * 3) on the device into float32 logits (n, classes)."""
        floats = pixels.to(torch.float32).sub_(self._mean)
        floats.mul_(self._scale)
        pictures = floats.to(self._dtype).view(len(pixels), self._side, self._side, 3).permute(0, 3, 1, 2)
        logits = self._module(pictures)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(pixels):
            raise RuntimeError("The network did not give one row of logits per picture.")
        return logits.to(torch.float32)

    def _capture_all(self) -> None:
        """Capture a graph per bucket and slot, largest bucket first, in one pool of memory.

        The largest first: smaller graphs then find their memory in the pool. Where it does not fit, the bucket goes.
        """
        pool = torch.cuda.graph_pool_handle()
        for bucket in reversed(self._buckets):
            if not self._capture(bucket, pool):
                self._buckets = tuple(size for size in self._buckets if size < bucket)
                _release_cached()
                if not self._buckets:
                    raise RuntimeError("The GPU's memory does not hold a batch of one row.")
                log.warning("The GPU's memory does not hold a batch of %d rows; at most %d.", bucket, self._buckets[-1])

    def _capture(self, bucket: int, pool: Any) -> bool:
        """Capture one bucket for every slot; False when memory ran out."""
        try:
            with torch.inference_mode():
                for slot in self._slots:
                    with torch.cuda.stream(self._compute):
                        for _ in range(_WARM_UPS):
                            self._forward(slot.pixels[:bucket])
                    self._compute.synchronize()
                    graph = torch.cuda.CUDAGraph()
                    # thread_local: what other threads of this process do with CUDA meanwhile does not break it.
                    with torch.cuda.graph(graph, pool, self._compute, capture_error_mode="thread_local"):
                        slot.logits[bucket] = self._forward(slot.pixels[:bucket])
                    slot.graphs[bucket] = graph
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        for slot in self._slots:
            slot.graphs.pop(bucket, None)
            slot.logits.pop(bucket, None)
        return False


def _release_cached() -> None:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 for this process; torch's own default allows it for convolutions."""
    value = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = value
    torch.backends.cudnn.conv.fp32_precision = value  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = value  # type: ignore[attr-defined]

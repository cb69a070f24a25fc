"""torch itself: the network as its authors wrote it, in channels-last layout. What everything else is compared with.

On a GPU ``cudagraphs`` replays recorded graphs; see ``consumer/runtimes/pytorch/cuda_runner.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.runtimes.base import CannotRun, Job, Pixels, Runner


class Torch:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "torch"
    needs_network = True

    def missing(self, device: str) -> str:
        """See the interface."""
        return ""

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        from consumer.runtimes.instructions import lacks

        from . import torch_runner

        return tuple(one for one in torch_runner.PRECISIONS[device] if not lacks(device, one))

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Do nothing: torch takes the network as it is."""

    def open(self, job: Job) -> Runner:
        """Bring the network onto the device."""
        from . import torch_runner

        assert job.network is not None
        return torch_runner.make(job.network, job.device, job.precision, job.max_batch)


class CudaGraphs:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "cudagraphs"
    needs_network = True

    def missing(self, device: str) -> str:
        """See the interface."""
        return "" if device == "cuda" else "cudagraphs needs an NVIDIA GPU."

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        return (*(one for one in Torch().precisions(device) if one != "fp32"), "fp32")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Do nothing: graphs are recorded when the runner is made."""

    def open(self, job: Job) -> Runner:
        """Record a graph for each size of batch."""
        from .cuda_runner import CudaRunner

        assert job.network is not None
        try:
            return CudaRunner(job.network, job.precision, job.max_batch, uses_graphs=True)
        except RuntimeError as error:
            raise CannotRun(f"its CUDA graphs cannot be recorded: {error}") from error

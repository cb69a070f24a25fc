"""``torch.compile``: torch's own compiler, only if you name it.

On one core of an AMD EPYC with AVX-512 it made ``bench-mobilenet`` 12% faster than torch as it is, where ONNX Runtime
made it 67% faster, and took 68 s of processor time for that, at each start whose cache was gone. So no search
tries it by itself. Not yet run on a GPU.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from consumer.runtimes.base import CannotRun, Job, Pixels, Runner
from consumer.runtimes.libraries import missing, said
from consumer.runtimes.session import TRIED

from .torch_runtime import Torch

if TYPE_CHECKING:
    from torch import nn

COMPILERS = ("g++", "c++", "clang++")


class Compile:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "compile"
    needs_network = True

    def missing(self, device: str) -> str:
        """See the interface."""
        if device == "cuda":
            return missing("triton", "consumer")
        names = (os.environ.get("CXX", ""), *COMPILERS)
        if any(name and shutil.which(name) for name in names):
            return ""
        return f"compile needs a C++ compiler, and none of {', '.join(COMPILERS)} is there; CXX names another."

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        return Torch().precisions(device)

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Do nothing: what torch compiles it keeps in a folder of its own (``TORCHINDUCTOR_CACHE_DIR``)."""

    def open(self, job: Job) -> Runner:
        """Compile for batches of any size, which the first ones take a minute for."""
        from . import torch_runner

        assert job.network is not None
        runner = torch_runner.make(job.network, job.device, job.precision, job.max_batch, _compiled)
        row = np.zeros((job.side, job.side, 3), np.uint8)
        try:
            for count in TRIED:
                runner.run([row] * min(count, job.max_batch))
        except Exception as error:
            raise CannotRun(f"torch.compile cannot compile it: {said(error)}.") from error
        return runner


def _compiled(module: nn.Module) -> nn.Module:
    import torch

    return cast("nn.Module", torch.compile(module, dynamic=True))

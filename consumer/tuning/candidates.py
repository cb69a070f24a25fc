"""Every runtime by its name, in the order in which they are tried."""

from __future__ import annotations

from consumer.runtimes.base import Runtime
from consumer.runtimes.exported.onnx_runtime import OnnxRuntime
from consumer.runtimes.exported.openvino_runtime import OpenVino
from consumer.runtimes.exported.tensorrt_runtime import TensorRt
from consumer.runtimes.pytorch.compile_runtime import Compile
from consumer.runtimes.pytorch.torch_runtime import CudaGraphs, Torch

from .race import Candidate

RUNTIMES: tuple[Runtime, ...] = (OnnxRuntime(), OpenVino(), TensorRt(), CudaGraphs(), Compile(), Torch())
BY_NAME = ("compile",)
"""Tried only if you name them: they cost more than they are likely to win."""

_RANKS = {"fp32": 0, "int8": 2}
"""In fp32 nothing can be lost, so these set the mark; quantising takes longest and is most often refused."""


def runtime(name: str) -> Runtime:
    """Return the runtime called ``name``.

    Raises:
        KeyError: there is none.
    """
    return {one.name: one for one in RUNTIMES}[name]


def candidates(
    device: str, asked: str, precision: str
) -> tuple[list[tuple[Runtime, str]], list[tuple[Candidate, str]]]:
    """Return what is to be tried, the likeliest to win first, and what cannot be, with a sentence for each.

    Args:
        asked: name of the runtime, or ``auto``.
        precision: likewise.
    """
    offered: list[tuple[Runtime, str]] = []
    missing: list[tuple[Candidate, str]] = []
    for one in RUNTIMES:
        if asked != one.name and (asked != "auto" or one.name in BY_NAME):
            continue
        why = one.missing(device)
        if why:
            if asked == one.name or "installed" in why:
                missing.append((Candidate(one.name, precision), why))
            continue
        names = [name for name in one.precisions(device) if precision in ("auto", name)]
        offered += [(one, name) for name in names]
        if not names:
            missing.append((Candidate(one.name, precision), f"there are no instructions for {precision} here."))
    offered.sort(key=lambda pair: _RANKS.get(pair[1], 1))
    return offered, missing

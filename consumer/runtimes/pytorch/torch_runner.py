"""Brings a network onto its device in torch: checks that it can run so, and makes the runner."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from consumer.runtimes.base import Runner
from consumer.runtimes.network import Network

from .cpu_runner import CpuRunner

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "fp16", "bf16")}


def check(device: str, precision: str) -> None:
    """Refuse what cannot run, before any weights are read.

    Raises:
        ValueError: one sentence with the reason and advice.
    """
    if device not in PRECISIONS:
        raise ValueError(f"the device must be cpu or cuda, not {device!r}.")
    if precision not in PRECISIONS["cuda"]:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS['cuda'])}, not {precision!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("the device cuda was asked for, but torch sees no usable GPU; use HEADRACE_DEVICE=cpu.")
    if precision not in PRECISIONS[device]:
        why = "is slow and often inexact" if precision == "fp16" else "does not exist"
        raise ValueError(f"precision {precision} {why} on a CPU; use bf16 or fp32.")


def make(
    network: Network,
    device: str,
    precision: str,
    max_batch: int,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> Runner:
    """Make a runner of the network as it is written.

    Args:
        wrap: called with the module that is ready for its device and precision; what it returns is run.
    """
    if device == "cpu":
        return CpuRunner(network, precision, max_batch, wrap)
    from .cuda_runner import CudaRunner

    return CudaRunner(network, precision, max_batch, wrap=wrap)

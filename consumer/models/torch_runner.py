"""Brings a network onto its device: checks that it can run so, and chooses the recipe."""

from __future__ import annotations

import logging
import math

import torch

from consumer.notes import Notes

from . import recipe
from .cpu_runner import STEPS as CPU_STEPS
from .cpu_runner import CpuRunner
from .network import Network

log = logging.getLogger(__name__)

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
    network: Network, device: str, precision: str, max_batch: int, notes: Notes, allowed: frozenset[str] | None = None
) -> tuple[recipe.Runner, recipe.Steps]:
    """Make the fastest runner whose outputs agree with the plain network's in fp32.

    Args:
        notes: of earlier starts; a recipe found there is only checked for its outputs.
        allowed: the steps that may be tried; None for all.

    Returns:
        The runner, and the steps that are in force.
    """
    offered = tuple(step for step in _steps(device) if allowed is None or step in allowed)
    plain = _runner(network, device, "fp32", (), max_batch)
    if not offered:
        return (plain if precision == "fp32" else _runner(network, device, precision, (), max_batch)), ()
    rows = recipe.samples_of(network, min(recipe.ROWS, max_batch))
    plain_s, reference = recipe.first_run(plain, rows, math.inf)

    def make_one(steps: recipe.Steps) -> recipe.Runner:
        return _runner(network, device, precision, steps, max_batch)

    def noted(in_precision: str) -> recipe.Steps | None:
        known = notes.get(f"recipe {device} {in_precision} of {'+'.join(offered)}")
        return tuple(known) if isinstance(known, list) and all(step in offered for step in known) else None

    known = noted(precision)
    if known is not None:
        try:
            runner = make_one(known)
            if recipe.agrees(reference, runner.run(rows), precision):
                return runner, known
        except Exception as error:
            log.info("The recipe of an earlier start does not work any more: %s", error)
    # On every processor that was tried, all steps together were as fast as the best choice among them.
    likely = noted("fp32") or (offered if device == "cpu" else ())
    to_match_s = math.inf if precision == "fp32" else plain_s
    runner, steps = recipe.choose(offered, make_one, rows, reference, precision, likely, to_match_s)
    notes.put(f"recipe {device} {precision} of {'+'.join(offered)}", list(steps))
    return runner, steps


def _steps(device: str) -> recipe.Steps:
    if device == "cpu":
        return CPU_STEPS
    from .cuda_runner import STEPS

    return STEPS


def _runner(network: Network, device: str, precision: str, steps: recipe.Steps, max_batch: int) -> recipe.Runner:
    if device == "cpu":
        return CpuRunner(network, precision, steps, max_batch)
    from .cuda_runner import CudaRunner

    return CudaRunner(network, precision, steps, max_batch)

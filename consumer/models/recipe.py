"""Which steps make a network faster here? Each is tried when the model is loaded, and kept only if it helps.

A step is kept when the outputs still agree with the plain network's in fp32 and a batch takes less time. A network that
a step does not fit runs without it, and one that none fits runs plainly.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consumer.parity import THRESHOLDS, Threshold, agreement

from . import graph, half, samples
from .network import Network
from .row_ring import RowRing

log = logging.getLogger(__name__)

ROWS = 8
"""Rows of the batch that steps are judged by."""
CALIBRATION_ROWS = 16
WORTH = 0.985
"""A step must bring the time of a batch below this share of what it was; less is noise."""
ROUNDS = 8
BUDGET_S = 0.3
"""Time for one comparison. At least ``LEAST_ROUNDS`` are run, and no more than it takes to see a clear difference."""
LEAST_ROUNDS = 2
CLEAR = 0.85
HOPELESS = 2.0
"""What takes more than so many times the best at its first batch is given up there."""
BRIEF_S = 0.1
"""A first batch as short as this is run once more before it is judged: part of it is done once only."""
SEARCH_S = 6.0
"""No further step is tried once the search has taken this long: a start must not last because a batch does."""
EXACT = Threshold(0.99999, 0.001, 0.995)
"""How close fp32 with a recipe must come to fp32 without: it only computes in another order."""

Pixels = NDArray[np.uint8]
Steps = tuple[str, ...]

_GRAPH_STEPS = {"fuse_conv_bn", "fold_scale", "fuse_activations"}


class Runner(Protocol):
    """A network on its device. The one interface between a classifier and how its network is run.

    Attributes:
        ring: where rows are best written to before they are run; None for anywhere.
        busy_s: seconds that the device has computed; None where that is the time spent in ``run``.
        padded_rows: rows computed for nothing so far, because batches are filled up to a certain size.
        working_rows: rows that at most run at once since memory ran out; None while it never did.
    """

    ring: RowRing | None
    busy_s: float | None
    padded_rows: int

    @property
    def working_rows(self) -> int | None: ...

    def run(self, rows: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return the logits of ``rows``, (n, classes), as a fresh array.

        Raises:
            RuntimeError: the network's output is not (rows, classes).
        """


def samples_of(network: Network, count: int = ROWS) -> list[Pixels]:
    """Return pictures of the size that ``network`` takes."""
    side = network.preprocessing.crop
    return samples.pictures(count, side, side)


def transformed(network: Network, dtype: torch.dtype, steps: Steps) -> nn.Module:
    """Return the network's module, on the CPU, in ``dtype`` and changed by those of ``steps`` that concern it.

    Without steps it is the module itself, converted in place.

    Raises:
        graph.DoesNotFit: a step cannot be done to this network.
    """
    module, pictures = network.module, None
    if _GRAPH_STEPS & set(steps):
        pictures = _normalised(network)
        simple = network.simplify(module, pictures) if network.simplify else module
        traced = graph.traced(simple)
        if "fuse_conv_bn" in steps:
            graph.fold_batch_norms(traced)
        if "fold_scale" in steps:
            scale = 1 / (torch.tensor(network.preprocessing.std) * 255)
            graph.fold_scale(traced, scale)
            pictures = pictures / scale.view(1, 3, 1, 1)
        half.converted(traced, dtype, pictures)
        module = graph.fuse_activations(traced) if "fuse_activations" in steps else traced
    elif dtype != torch.float32 or steps:
        module = half.converted(half.copied(module), dtype)
    if "channels_last" in steps:
        module = module.to(memory_format=torch.channels_last)
    return module.eval()


def _normalised(network: Network) -> Tensor:
    pixels = np.stack(samples_of(network, CALIBRATION_ROWS)).astype(np.float32) / 255
    mean, std = np.array(network.preprocessing.mean, np.float32), np.array(network.preprocessing.std, np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(0, 3, 1, 2)


def choose(
    offered: Steps,
    make: Callable[[Steps], Runner],
    rows: Sequence[Any],
    reference: NDArray[Any],
    precision: str,
    likely: Steps = (),
    plain_s: float = math.inf,
) -> tuple[Runner, Steps]:
    """Try the steps one after the other, each on top of those kept before it, for ``SEARCH_S`` at most.

    Args:
        offered: names of steps, in the order to try them.
        make: makes a runner with the given steps; whatever it raises for a step rules that step out.
        rows: the batch to judge by.
        reference: outputs of plain fp32 for ``rows``.
        precision: sets how close the outputs must come.
        likely: steps that were found to help in another precision. Together they are tried first, and kept if they
            agree and are faster than none: each start would otherwise go through the whole search twice.
        plain_s: what a batch takes in plain fp32. Where this precision takes more than ``HOPELESS`` times as long, no
            step makes up for that, and none is tried.

    Returns:
        The runner with all steps that are kept, and their names.

    Raises:
        Exception: what ``make`` raises without any step.
    """
    begun_s = perf_counter()
    best = make(())
    best_s, _ = first_run(best, rows, plain_s)
    if best_s > HOPELESS * plain_s:
        log.info("No step is tried in %s: a batch takes %.3g s, in fp32 %.3g s.", precision, best_s, plain_s)
        return best, ()

    def fitting(steps: Steps) -> Runner | None:
        nonlocal best_s
        try:
            candidate = make(steps)
            took_s, outputs = first_run(candidate, rows, best_s)
            if took_s > HOPELESS * best_s or not agrees(reference, outputs, precision):
                return None
            best_s = min(best_s, took_s)
            return candidate
        except Exception as error:
            log.info("The steps %s do not fit: %s", ", ".join(steps), error)
            return None

    if likely and (candidate := fitting(likely)) is not None and _is_faster(candidate, best, rows):
        return candidate, likely
    kept: Steps = ()
    for step in offered:
        if perf_counter() - begun_s > SEARCH_S:
            log.info("No time is left to try %s.", step)
            break
        candidate = fitting((*kept, step))
        if candidate is not None and _is_faster(candidate, best, rows):
            best, kept = candidate, (*kept, step)
    return best, kept


def agrees(reference: NDArray[Any], outputs: NDArray[Any], precision: str) -> bool:
    """Say whether ``outputs`` are as close to plain fp32's as ``precision`` allows."""
    return agreement(reference, outputs, precision, THRESHOLDS.get(precision, EXACT)).passed


def _is_faster(candidate: Runner, best: Runner, rows: Sequence[Any]) -> bool:
    """Compare the shortest times of alternating runs: what else the machine does only ever makes a run longer."""
    least_s, to_beat_s = float("inf"), float("inf")
    begun_s = perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS:
            clear = least_s < to_beat_s * CLEAR or to_beat_s < least_s * CLEAR
            if clear or perf_counter() - begun_s > BUDGET_S:
                break
        least_s = min(least_s, run_s(candidate, rows))
        to_beat_s = min(to_beat_s, run_s(best, rows))
    return least_s < to_beat_s * WORTH


def first_run(runner: Runner, rows: Sequence[Any], best_s: float) -> tuple[float, NDArray[Any]]:
    """Run the first batch, and once more if it is short and looks hopeless beside ``best_s``; seconds and outputs."""
    begun_s = perf_counter()
    outputs = runner.run(rows)
    took_s = perf_counter() - begun_s
    if took_s > HOPELESS * best_s and took_s < BRIEF_S:
        took_s = min(took_s, run_s(runner, rows))
    return took_s, outputs


def run_s(runner: Runner, rows: Sequence[Any]) -> float:
    """Run ``rows`` once; returns seconds."""
    begun_s = perf_counter()
    runner.run(rows)
    return perf_counter() - begun_s

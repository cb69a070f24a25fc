"""How close the outputs of one precision come to those of another. Pure: two sets of outputs in, a judgement out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.events import Parity


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a precision must reach: see :class:`Parity` for the three figures."""

    cosine: float
    largest_difference: float
    top1_agreement: float


# TF32 keeps as many bits of a number as fp16 does, so it is held to the same.
# fp32 in another runtime only computes in another order.
THRESHOLDS = {
    "fp32": Threshold(0.99999, 0.001, 0.995),
    "tf32": Threshold(0.9999, 0.01, 0.995),
    "fp16": Threshold(0.9999, 0.01, 0.995),
    "bf16": Threshold(0.999, 0.03, 0.99),
    "int8": Threshold(0.995, 0.08, 0.97),
}


def compare(reference: NDArray[Any], candidate: NDArray[Any], precision: str) -> Parity:
    """Compare the outputs of fp32 with those of ``precision``.

    Args:
        reference: fp32's outputs, shape (rows, ...), any numeric datatype.
        candidate: the other's outputs for the same inputs, same shape.
        precision: a key of ``THRESHOLDS``.
    """
    return agreement(reference, candidate, precision, THRESHOLDS[precision])


def agreement(reference: NDArray[Any], candidate: NDArray[Any], precision: str, least: Threshold) -> Parity:
    """The same against thresholds of the caller's."""
    if reference.shape != candidate.shape:
        reason = f"its outputs have shape {list(candidate.shape)} instead of {list(reference.shape)}."
        return Parity(precision, len(reference), 0.0, float("inf"), 0.0, False, reason)
    rows = len(reference)
    ours = reference.reshape(rows, -1).astype(np.float64)
    theirs = candidate.reshape(rows, -1).astype(np.float64)
    for outputs, whose in ((ours, "fp32's"), (theirs, "its")):
        if not np.isfinite(outputs).all():
            return Parity(precision, rows, 0.0, float("inf"), 0.0, False, f"{whose} outputs are not finite.")
    differences = np.abs(ours - theirs).max(axis=1, initial=0.0)
    return _judge(
        precision,
        least,
        rows,
        _top1_agreement(ours, theirs, differences),
        _relative(float(differences.max(initial=0.0)), float(np.abs(ours).max(initial=0.0))),
        _cosine(ours, theirs),
    )


def _judge(precision: str, least: Threshold, rows: int, agreement: float, difference: float, cosine: float) -> Parity:
    failures = []
    if cosine < least.cosine:
        failures.append(f"cosine similarity {cosine:.6f} is below {least.cosine}")
    if difference > least.largest_difference:
        failures.append(f"largest difference {difference:.2%} is above {least.largest_difference:.0%}")
    if agreement < least.top1_agreement:
        failures.append(f"top-1 agreement {agreement:.1%} is below {least.top1_agreement:.1%}")
    if failures:
        reason = f"against fp32 on {rows} sample inputs, {' and '.join(failures)}."
    else:
        reason = (
            f"it agrees with fp32 on {rows} sample inputs: top-1 {agreement:.1%}, largest difference "
            f"{difference:.2%}, cosine similarity {cosine:.6f}."
        )
    return Parity(precision, rows, agreement, difference, cosine, not failures, reason)


def _top1_agreement(ours: NDArray[Any], theirs: NDArray[Any], differences: NDArray[Any]) -> float:
    if ours.shape[1] < 2:
        return 1.0
    highest = np.partition(ours, -2, axis=1)[:, -2:]
    decisive = highest[:, 1] - highest[:, 0] > differences
    if not decisive.any():
        return 1.0
    return float((ours.argmax(axis=1) == theirs.argmax(axis=1))[decisive].mean())


def _relative(difference: float, largest: float) -> float:
    if difference == 0:
        return 0.0
    return difference / largest if largest > 0 else float("inf")


def _cosine(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if lengths == 0:  # zeros have no direction: they agree with zeros and with nothing else
        return float(not ours.any() and not theirs.any())
    return float((ours * theirs).sum() / lengths)

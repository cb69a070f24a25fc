"""The result of a search, as it is stored in a file and shown on a card. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from consumer.events import Parity
from shared.settings import MAX_BATCH_CEILING, PRECISIONS, RUNTIMES
from shared.state.cards import Trial, Tuning

BatchTimes = tuple[tuple[int, float], ...]
"""(rows, seconds) for each size of batch, ascending."""

LITTLE = 1.15
"""Batches that get less than so many times done of what single rows do gain little."""


class Finding(msgspec.Struct, frozen=True):
    """The runtime and precision to use.

    Attributes:
        reason: one sentence on how its outputs compare with fp32 in torch.
        rows, top1_agreement, largest_difference, cosine: see :class:`consumer.events.Parity`.
        measured: what batches took.
        preferred: rows beyond which a batch gets hardly more done.
        trials: everything that was tried.
        searched_s: seconds of processor time that the search took.
        refusal: sentences on why the runtime or precision that was named is not used; empty if it is.
    """

    runtime: str
    precision: str
    reason: str
    rows: int
    top1_agreement: float
    largest_difference: float
    cosine: float
    measured: BatchTimes
    preferred: int
    trials: tuple[Trial, ...] = ()
    searched_s: float = 0.0
    refusal: str = ""

    @property
    def parity(self) -> Parity:
        """How close it comes to fp32 in torch."""
        return Parity(
            self.precision,
            self.rows,
            self.top1_agreement,
            self.largest_difference,
            self.cosine,
            True,
            self.reason,
        )

    @property
    def tuning(self) -> Tuning:
        """What the card says of it."""
        reason = self.refusal or f"{self.runtime} in {self.precision} is the fastest of those that were tried here."
        return Tuning("refused" if self.refusal else "tuned", reason, self.trials, batching_sentence(self.measured))


def check(finding: Finding) -> None:
    """Check what comes from a file: nothing but what a search finds may decide how requests are batched.

    Raises:
        ValueError: it is no finding of a search; one sentence.
    """
    rows = [size for size, _ in finding.measured]
    if finding.runtime not in RUNTIMES[1:] or finding.precision not in PRECISIONS[1:]:
        raise ValueError(f"{finding.runtime[:80]!r} in {finding.precision[:80]!r} is unknown.")
    if not 1 <= finding.preferred <= MAX_BATCH_CEILING:
        raise ValueError(f"{finding.preferred} is no size of a batch.")
    if not rows or rows[0] < 1 or rows != sorted(set(rows)) or rows[-1] > MAX_BATCH_CEILING:
        raise ValueError("its sizes of batches are not ascending.")
    if not all(0.0 < run_s < math.inf for _, run_s in finding.measured):
        raise ValueError("its times of batches are not positive.")


def batching_sentence(measured: Sequence[tuple[int, float]]) -> str:
    """Say so in a sentence where batches gain little; else return an empty string."""
    rates = {rows: rows / run_s for rows, run_s in measured if run_s > 0}
    if 1 not in rates or len(rates) < 2:
        return ""
    best = max(rates, key=lambda rows: rates[rows])
    gain = rates[best] / rates[1]
    if gain >= LITTLE:
        return ""
    return (
        f"Batches gain little here: {rates[best]:.0f} rows/s at {best} rows, {rates[1]:.0f} one by one; "
        "one row fills the processor already."
    )


def table(finding: Finding) -> list[str]:
    """Return the trials as lines of a table, for the log."""
    head = ("RUNTIME", "PRECISION", "ROWS/S", "BATCH", "OUTCOME")
    lines = [head, *(_cells(trial) for trial in finding.trials)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]


def _cells(trial: Trial) -> tuple[str, ...]:
    rate = "-" if trial.rows_per_s is None else f"{trial.rows_per_s:.0f}"
    return trial.runtime, trial.precision, rate, str(trial.batch or "-"), trial.outcome

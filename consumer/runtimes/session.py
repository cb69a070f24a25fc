"""What the runtimes of exported files have in common: rows into one buffer, outputs checked. No runtime in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .base import CannotRun, Job, Pixels
from .libraries import is_lack_of_memory, said
from .oom_splitting import OomSplitting
from .row_ring import RowRing

ROWS_PER_THREAD = 8
"""Rows of a batch that are computed at once, for each thread. What is between two layers of more rows than these does
not fit the processor's caches, so they take longer, and memory: 32 rows of EfficientNet-Lite0 at once took a process
of 443 MB, in parts 190 (ONNX Runtime, fp32, one core of an AMD EPYC)."""
TRIED = (1, 3)
"""Sizes of the first batches. A network is exported with an example of 2: one that is made for that fails at these."""


class SessionRunner:
    """Runs batches through a function over arrays. Everything here is the executor thread's.

    Args:
        infer: takes uint8 (n, side, side, 3), gives logits (n, classes); its input may be overwritten afterwards.
        side: height and width of a picture in pixels.
        max_batch: rows of the largest batch.
        at_once: rows of the largest batch that ``infer`` is given; larger ones are run in parts. None: any.
    """

    ring: RowRing | None = None
    busy_s: float | None = None
    padded_rows: int = 0

    def __init__(
        self, infer: Callable[[Pixels], NDArray[np.float32]], side: int, max_batch: int, at_once: int | None = None
    ) -> None:
        self._infer = infer
        most = min(max_batch, at_once or max_batch)
        self._batch = np.zeros((most, side, side, 3), np.uint8)
        self._in_parts = OomSplitting(self._run_part, most)

    def run(self, rows: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`consumer.runtimes.base.Runner.run`."""
        return self._in_parts(rows)

    def computed_rows(self, rows: int) -> int:
        """Return ``rows``: nothing is filled up."""
        return rows

    @property
    def working_rows(self) -> int | None:
        """Rows that at most run at once since memory ran out; None while it never did."""
        return self._in_parts.working_rows

    def _run_part(self, rows: Sequence[Pixels]) -> NDArray[np.float32]:
        count = len(rows)
        if count == 1:  # one picture lies as it should already
            batch = np.ascontiguousarray(rows[0])[np.newaxis]
        else:
            batch = self._batch[:count]
            for place, row in zip(batch, rows, strict=True):
                np.copyto(place, row)
        try:
            logits = self._infer(batch)
        except Exception as error:
            if is_lack_of_memory(error):
                raise MemoryError(said(error)) from error
            raise
        if logits.ndim != 2 or len(logits) != count:
            raise RuntimeError("The network did not give one row of logits per picture.")
        return logits


def for_job(infer: Callable[[Pixels], NDArray[np.float32]], job: Job) -> SessionRunner:
    """Make a runner of what was exported, for a CPU, and try it.

    Raises:
        CannotRun: not even batches of zeros come through.
    """
    return tried(SessionRunner(infer, job.side, job.max_batch, ROWS_PER_THREAD * job.threads), job.side)


def tried(runner: SessionRunner, side: int) -> SessionRunner:
    """Return ``runner`` when batches of zeros come through.

    Raises:
        CannotRun: they do not.
    """
    row = np.zeros((side, side, 3), np.uint8)
    for count in TRIED:
        try:
            runner.run([row] * count)
        except Exception as error:
            raise CannotRun(f"what was exported cannot take a batch of {count}: {said(error)}.") from error
    return runner

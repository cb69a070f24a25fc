"""What the runtimes of exported files have in common: rows into one buffer, outputs checked. No runtime in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from consumer.models.halving import Halving
from consumer.models.row_ring import RowRing

from .base import Pixels


class SessionRunner:
    """Runs batches through a function over arrays. Everything here is the executor thread's.

    Args:
        infer: takes uint8 (n, side, side, 3), gives logits (n, classes); its input may be overwritten afterwards.
        side: height and width of a picture in pixels.
        max_batch: rows of the largest batch; more are run in parts.
    """

    ring: RowRing | None = None
    busy_s: float | None = None
    padded_rows: int = 0

    def __init__(self, infer: Callable[[Pixels], NDArray[np.float32]], side: int, max_batch: int) -> None:
        self._infer = infer
        self._batch = np.empty((max_batch, side, side, 3), np.uint8)
        self._in_parts = Halving(self._run_part, max_batch)

    def run(self, rows: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`consumer.runtimes.base.Runner.run`."""
        return self._in_parts(rows)

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
        logits = self._infer(batch)
        if logits.ndim != 2 or len(logits) != count:
            raise RuntimeError("The network did not give one row of logits per picture.")
        return logits

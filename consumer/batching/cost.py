"""What a batch costs: ``per_row_s`` * rows + ``fixed_s``, fitted to the batches that ran. Pure."""

from __future__ import annotations

from collections.abc import Iterable

FORGET = 0.98
"""Weight of a batch relative to the next one: what counts is the last fifty or so."""

OUTLIER = 2.0
"""A batch counts at most this many times as long (or short) as expected: one that the kernel interrupted changes
little, while a lasting change is followed within some batches."""

LEAST_SPREAD = 0.01
"""Below this squared coefficient of variation of the batch sizes, slope and intercept cannot be told apart."""

LONGEST_S = 1e6
"""What is longer is not a time."""


class BatchCost:
    """Weighted least squares of run time over rows, with forgetting.

    Weights are one over the expected time squared: what should be small is the relative error, since a large batch
    varies by more seconds than a small one. Neither part is ever negative (the fit is the best one within that bound).
    While all batches have the same size only the scale is learned, and the proportion stays as it was.

    One thread calls ``observe``; any may read ``per_row_s`` and ``fixed_s``.

    Args:
        measured: (rows, seconds) pairs known beforehand, as from calibration; they fade like any other.
    """

    def __init__(self, measured: Iterable[tuple[int, float]] = ()) -> None:
        self.per_row_s = 0.0
        self.fixed_s = 0.0
        # Sums over batches of weight times: 1, rows, rows squared, seconds, rows times seconds.
        self._w = self._n = self._nn = self._t = self._nt = 0.0
        for rows, run_s in measured:
            self._add(rows, run_s, run_s)
        self._fit()

    def run_s(self, rows: float) -> float:
        """Return the expected seconds of a batch; 0 while nothing is known."""
        return self.per_row_s * rows + self.fixed_s

    def observe(self, rows: int, run_s: float) -> None:
        """Take in a batch that ran."""
        if rows < 1 or not 0.0 <= run_s < LONGEST_S:
            return
        expected_s = self.run_s(rows)
        if expected_s > 0.0:
            run_s = min(max(run_s, expected_s / OUTLIER), expected_s * OUTLIER)
        self._add(rows, run_s, expected_s or run_s)
        self._fit()

    def _add(self, rows: int, run_s: float, expected_s: float) -> None:
        weight = 1.0 / max(expected_s, 1e-9) ** 2
        weighted_rows, weighted_s = weight * rows, weight * run_s
        self._w = FORGET * self._w + weight
        self._n = FORGET * self._n + weighted_rows
        self._nn = FORGET * self._nn + weighted_rows * rows
        self._t = FORGET * self._t + weighted_s
        self._nt = FORGET * self._nt + weighted_s * rows

    def _fit(self) -> None:
        w, n, nn, t, nt = self._w, self._n, self._nn, self._t, self._nt
        if w == 0.0:
            return
        determinant = w * nn - n * n
        if determinant > LEAST_SPREAD * n * n:
            per_row_s = (w * nt - n * t) / determinant
            fixed_s = (nn * t - n * nt) / determinant
            if per_row_s < 0.0:
                per_row_s, fixed_s = 0.0, t / w
            elif fixed_s < 0.0:
                per_row_s, fixed_s = nt / nn, 0.0
            self.per_row_s, self.fixed_s = per_row_s, fixed_s
            return
        expected = self.per_row_s * n + self.fixed_s * w
        if expected > 0.0:
            scale = t / expected
            self.per_row_s, self.fixed_s = self.per_row_s * scale, self.fixed_s * scale
        else:
            self.per_row_s = nt / nn

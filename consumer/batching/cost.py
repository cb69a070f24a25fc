"""What a batch costs: ``per_unit_s`` * units + ``fixed_s``, fitted to the batches that ran. Pure."""

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
    """Weighted least squares of run time over units, with forgetting.

    Weights are one over the expected time squared: what should be small is the relative error, since a large batch
    varies by more seconds than a small one. Neither part is ever negative (the fit is the best one within that bound).
    While all batches have the same size only the scale is learned, and the proportion stays as it was.

    One thread calls ``observe``; any may read ``per_unit_s`` and ``fixed_s``.

    Args:
        measured: (units, seconds) pairs known beforehand, as from calibration; they fade like any other.
    """

    def __init__(self, measured: Iterable[tuple[int, float]] = ()) -> None:
        self.per_unit_s = 0.0
        self.fixed_s = 0.0
        # Sums over batches of weight times: 1, units, units squared, seconds, units times seconds.
        self._w = self._n = self._nn = self._t = self._nt = 0.0
        for units, run_s in measured:
            self._add(units, run_s, run_s)
        self._fit()

    def run_s(self, units: float) -> float:
        """Return the expected seconds of a batch; 0 while nothing is known."""
        return self.per_unit_s * units + self.fixed_s

    def observe(self, units: int, run_s: float) -> None:
        """Take in a batch that ran."""
        if units < 1 or not 0.0 <= run_s < LONGEST_S:
            return
        expected_s = self.run_s(units)
        if expected_s > 0.0:
            run_s = min(max(run_s, expected_s / OUTLIER), expected_s * OUTLIER)
        self._add(units, run_s, expected_s or run_s)
        self._fit()

    def _add(self, units: int, run_s: float, expected_s: float) -> None:
        weight = 1.0 / max(expected_s, 1e-9) ** 2
        weighted_units, weighted_s = weight * units, weight * run_s
        self._w = FORGET * self._w + weight
        self._n = FORGET * self._n + weighted_units
        self._nn = FORGET * self._nn + weighted_units * units
        self._t = FORGET * self._t + weighted_s
        self._nt = FORGET * self._nt + weighted_s * units

    def _fit(self) -> None:
        w, n, nn, t, nt = self._w, self._n, self._nn, self._t, self._nt
        if w == 0.0:
            return
        determinant = w * nn - n * n
        if determinant > LEAST_SPREAD * n * n:
            per_unit_s = (w * nt - n * t) / determinant
            fixed_s = (nn * t - n * nt) / determinant
            if per_unit_s < 0.0:
                per_unit_s, fixed_s = 0.0, t / w
            elif fixed_s < 0.0:
                per_unit_s, fixed_s = nt / nn, 0.0
            self.per_unit_s, self.fixed_s = per_unit_s, fixed_s
            return
        expected = self.per_unit_s * n + self.fixed_s * w
        if expected > 0.0:
            scale = t / expected
            self.per_unit_s, self.fixed_s = self.per_unit_s * scale, self.fixed_s * scale
        else:
            self.per_unit_s = nt / nn

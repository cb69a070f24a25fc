"""A race of runtimes and precisions: which ones to give up early, and which one wins. Pure: times come in as numbers.

The rules: outputs must agree with fp32 in torch. A lower precision wins only if it is faster than the best fp32 by more
than noise, and slower at no batch size that it would use. Of two that are equally fast the first one tried wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.events import Parity
from shared.state.cards import Trial

from .findings import BatchTimes, Finding
from .measuring import preferred_rows

AUTO, FP32 = "auto", "fp32"
HOPELESS = 2.0
"""A candidate ends at its first batch if that takes more than so many times the best one's."""
WORTH = 0.95
"""A lower precision must take less than this share of the time of fp32; less is noise."""
NOISE = 1.03
"""Within this factor two are equally fast."""
_TICK_S = 1e-9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A runtime and a precision."""

    runtime: str
    precision: str


@dataclass(frozen=True, slots=True)
class Runner:
    """A candidate whose outputs agree, and what its batches took.

    Attributes:
        exact: what the best fp32 took for the same batches at the same time; empty for fp32 itself.
    """

    candidate: Candidate
    parity: Parity
    measured: BatchTimes
    preferred: int
    exact: BatchTimes = ()

    @property
    def rows_per_s(self) -> float:
        """At the preferred size, or the largest one that was measured."""
        return self.batch / self.time_s(self.batch)

    @property
    def batch(self) -> int:
        """The size that this is reached at."""
        return max((rows for rows, _ in self.used), key=lambda rows: rows / self.time_s(rows))

    @property
    def used(self) -> BatchTimes:
        """The sizes that it would use, with what they took; the smallest one if it is all that was measured."""
        return tuple(one for one in self.measured if one[0] <= self.preferred) or self.measured[:1]

    def time_s(self, rows: int) -> float:
        """Return what a batch of a size that was measured takes; never zero, whatever the clock says."""
        return max(dict(self.measured)[rows], _TICK_S)


class Race:
    """Collects what became of each candidate.

    Args:
        max_batch: rows of the largest batch.
        budget_s: of processor time for all of them.
    """

    def __init__(self, max_batch: int, budget_s: float) -> None:
        self._max_batch, self._budget_s = max_batch, budget_s
        self._fates: dict[Candidate, Runner | str] = {}
        """In the order in which they were tried; a sentence for each that is not used."""
        self.best_first_s: float | None = None
        """Time of the first batch of the best one so far."""

    def has_time(self, used_s: float) -> bool:
        """Say whether one more may be tried."""
        return used_s < self._budget_s

    def is_hopeless(self, first_s: float) -> bool:
        """Say whether to give up a candidate with this time of its first batch."""
        return self.best_first_s is not None and first_s > HOPELESS * self.best_first_s

    def out(self, candidate: Candidate, why: str) -> None:
        """Record that a candidate is not used; ``why`` is one sentence."""
        self._fates[candidate] = why

    def ran(
        self, candidate: Candidate, parity: Parity, measured: BatchTimes, first_s: float, exact: BatchTimes = ()
    ) -> None:
        """Record a candidate that agrees, with at least one size measured.

        Args:
            exact: what the best fp32 took for the same sizes, measured in turns with it.
        """
        self._fates[candidate] = Runner(candidate, parity, measured, preferred_rows(measured, self._max_batch), exact)
        self.best_first_s = first_s if self.best_first_s is None else min(first_s, self.best_first_s)

    def knows(self, candidate: Candidate) -> bool:
        """Say whether it is recorded what became of a candidate."""
        return candidate in self._fates

    @property
    def _runners(self) -> list[Runner]:
        return [fate for fate in self._fates.values() if isinstance(fate, Runner)]

    def winner(self, runtime: str = AUTO, precision: str = AUTO) -> Runner | None:
        """Choose among those that ran; None when none of them is what was asked for.

        Args:
            runtime, precision: names, or ``auto`` for any.
        """
        asked = [one for one in self._runners if _is_asked(one.candidate, runtime, precision)]
        exact = [one for one in asked if one.candidate.precision == FP32]
        lower = [one for one in asked if one.candidate.precision != FP32 and (not exact or is_worth(one))]
        left = [*exact, *lower]
        return _fastest(left) if left else None

    def is_best_exact(self, candidate: Candidate) -> bool:
        """Say whether a candidate, which ran, is the fastest in fp32 so far."""
        exact = [one for one in self._runners if one.candidate.precision == FP32]
        return bool(exact) and max(exact, key=lambda one: one.rows_per_s).candidate == candidate

    def finding(self, searched_s: float, runtime: str = AUTO, precision: str = AUTO) -> Finding:
        """Return what is to be kept: the winner, or else torch in fp32, the first that ran, with the reason why."""
        won = self.winner(runtime, precision)
        refusal = "" if won else self._refusal(runtime, precision)
        used = won or self._runners[0]
        parity = used.parity
        return Finding(
            runtime=used.candidate.runtime,
            precision=used.candidate.precision,
            reason=parity.reason,
            rows=parity.rows,
            top1_agreement=parity.top1_agreement,
            largest_difference=parity.largest_difference,
            cosine=parity.cosine,
            measured=used.measured,
            preferred=used.preferred,
            trials=tuple(self._trial(one, used, _is_asked(one, runtime, precision)) for one in self._fates),
            searched_s=searched_s,
            refusal=refusal,
        )

    def _refusal(self, runtime: str, precision: str) -> str:
        asked = " in ".join(one for one in (runtime, precision) if one != AUTO)
        why = [
            f"{one.runtime} in {one.precision}: {said}"
            for one, said in self._fates.items()
            if isinstance(said, str) and _is_asked(one, runtime, precision)
        ]
        return f"{asked} is not used. {' '.join(why) or 'It does not exist here.'}"

    def _trial(self, candidate: Candidate, used: Runner, is_asked: bool) -> Trial:
        runtime, precision, fate = candidate.runtime, candidate.precision, self._fates[candidate]
        if isinstance(fate, str):
            return Trial(runtime, precision, fate)
        outcome = "chosen." if fate is used else _why_not(fate, used, is_asked)
        return Trial(runtime, precision, outcome, round(fate.rows_per_s, 1), fate.batch)


def _is_asked(candidate: Candidate, runtime: str, precision: str) -> bool:
    return runtime in (AUTO, candidate.runtime) and precision in (AUTO, candidate.precision)


def _why_not(runner: Runner, used: Runner, is_asked: bool) -> str:
    if not is_asked:
        return "not asked for; what was asked for is compared with it."
    rows = slower_at(runner)
    if rows is None:
        return f"not faster than {used.candidate.runtime} in {used.candidate.precision}."
    times = f"{runner.time_s(rows) * 1000:.3g} ms against {dict(runner.exact)[rows] * 1000:.3g} ms"
    return f"slower than fp32 at batches of {rows}: {times}."


def slower_at(lower: Runner) -> int | None:
    """Return the size, of those it would use, at which a lower precision is slowest beside fp32; None if it never is.

    It is None for fp32 itself, which has nothing beside it.
    """
    exact = {rows: max(run_s, _TICK_S) for rows, run_s in lower.exact}
    shares = {rows: lower.time_s(rows) / exact[rows] for rows, _ in lower.used if rows in exact}
    worst = max(shares, key=lambda rows: shares[rows], default=None)
    return worst if worst is not None and shares[worst] > NOISE else None


def is_worth(lower: Runner) -> bool:
    """Say whether a lower precision is faster than the best fp32, and slower at no size that it would use."""
    exact = [rows / max(run_s, _TICK_S) for rows, run_s in lower.exact]
    return not exact or (lower.rows_per_s * WORTH >= max(exact) and slower_at(lower) is None)


def _fastest(runners: Sequence[Runner]) -> Runner:
    if not runners:
        raise ValueError("nothing that was tried can run this model.")
    best = max(one.rows_per_s for one in runners)
    return next(one for one in runners if one.rows_per_s * NOISE >= best)

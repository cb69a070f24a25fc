"""What a gate says: checks with what was measured and what was required, and the verdict they add up to. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from loadgen.errors import EXIT_INVALID, EXIT_OK, EXIT_OVER_BUDGET, EXIT_REGRESSION, EXIT_WRONG_ANSWERS

Kind = Literal["validity", "answers", "budget", "comparison", "regression"]
Status = Literal["pass", "wrong answers", "over budget", "regression", "invalid"]
EXIT_CODES: dict[Status, int] = {
    "pass": EXIT_OK,
    "wrong answers": EXIT_WRONG_ANSWERS,
    "over budget": EXIT_OVER_BUDGET,
    "regression": EXIT_REGRESSION,
    "invalid": EXIT_INVALID,
}
_ORDER: tuple[tuple[Kind, Status], ...] = (
    ("validity", "invalid"),
    ("answers", "wrong answers"),
    ("budget", "over budget"),
    ("comparison", "invalid"),
    ("regression", "regression"),
)
"""What is judged in which order, and what failing it makes of the whole. What comes after a failure is not judged."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was judged. `sentence` says what is wrong when `passed` is False."""

    kind: Kind
    name: str
    measured: str
    required: str
    passed: bool
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one run. `notes` are worth knowing and were not judged; `warnings` ask for a second look."""

    model: str | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """What the first kind of failing check makes of it."""
        return next((status for kind, status in _ORDER if self._failed(kind)), "pass")

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return EXIT_CODES[self.status]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass: the failures of the first kind that has any, since what follows proves nothing."""
        kind = next((kind for kind, _ in _ORDER if self._failed(kind)), None)
        return tuple(check.sentence for check in self._failed(kind)) if kind else ()

    def is_judged(self, check: Check) -> bool:
        """Whether what comes before this check in the order was in order itself."""
        before = [kind for kind, _ in _ORDER]
        return not any(self._failed(kind) for kind in before[: before.index(check.kind)])

    def _failed(self, kind: Kind) -> list[Check]:
        return [check for check in self.checks if check.kind == kind and not check.passed]


def unusable(sentence: str, kind: Kind = "validity") -> Check:
    """Return the failed check of a file that cannot be read."""
    return Check(kind, "result file", "unusable", "readable", False, sentence)


def number(value: float | None, unit: str) -> str:
    """Write a figure for people: `12.3 ms`, `unknown`, or `infinite`."""
    if value is None:
        return "unknown"
    if math.isinf(value):
        return "infinite"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"


def percent(change: float) -> str:
    """Write a relative change for people: `+4.2%`."""
    return "unknown" if math.isinf(change) or math.isnan(change) else f"{change:+.1%}"

"""The gate's part on answers: does the candidate answer as the base does? Faster because wrong is no progress. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadgen.budgets import ModelBudget
from loadgen.results.comparefile import Answer, CompareFile

from .verdict import Check

_MEANT = "If the model is meant to answer otherwise now, raise its version in models.toml."


def judge(budget: ModelBudget | None, compare: CompareFile) -> tuple[list[Check], tuple[str, ...], tuple[str, ...]]:
    """Return the checks on the answers, warnings and notes.

    A model with another version may answer differently; then a difference is a warning.
    """
    if budget is None:
        return [], (), ()
    model = compare.plan.model
    if not budget.answers_compared:
        return [], (), (f"The budgets say that answers of {model!r} are not to be compared.",)
    if compare.answers is None:
        return [], (), ("The answers were not compared: a stream was measured, and no service.",)
    versions = _version(compare.base.card), _version(compare.candidate.card)
    checks, warnings, notes = [], [], []
    for answer in compare.answers:
        if answer.base_failure is not None and answer.candidate_failure is None:
            notes.append(f"The base gave no answer to {answer.payload} ({answer.base_failure}), so none was compared.")
            continue
        check = _check(answer, budget.answers_within)
        if versions[0] != versions[1] and answer.candidate_failure is None and not check.passed:
            changed = f"The version of {model!r} changed from {versions[0]} to {versions[1]}, and so did its answer to"
            warnings.append(f"{changed} {answer.payload}: {_where(answer)}.")
            continue
        checks.append(check)
    if not checks and not warnings:
        sentence = "No answer of the candidate was compared with the base's."
        checks.append(Check("comparison", "answers compared", "0", "at least 1", False, sentence))
    return checks, tuple(warnings), tuple(notes)


def _check(answer: Answer, within: float) -> Check:
    limit = f"within {within:.3g} of the base's"
    name = f"answer to {answer.payload}"
    if answer.candidate_failure is not None:
        sentence = f"The candidate gave no answer to {answer.payload}: {answer.candidate_failure}."
        return Check("answers", name, "none", limit, False, sentence)
    passed = answer.difference is not None and answer.difference <= within
    measured = "another" if answer.difference is None else f"{answer.difference:.3g}"
    sentence = ""
    if not passed:
        sentence = f"The candidate does not answer {answer.payload} as the base does: {_where(answer)}; "
        sentence += f"{within:.3g} is allowed."
        if answer.own_difference is None or answer.own_difference > within:
            sentence += " Nor does the base itself, each time: for a model like that, set answers_compared = false."
        else:
            sentence += f" {_MEANT}"
    return Check("answers", name, measured, limit, passed, sentence)


def _where(answer: Answer) -> str:
    share = "" if answer.difference is None else f"by {answer.difference:.3g}, "
    return f"{share}{answer.what}"


def _version(card: Mapping[str, Any] | None) -> str:
    version = (card or {}).get("version")
    return version if isinstance(version, str) else "unknown"

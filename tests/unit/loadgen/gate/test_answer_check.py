"""Faster because wrong is a failure: what the gate makes of answers that are not the base's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadgen.budgets import loosened, parse_budgets
from loadgen.gate.run_gate import judge
from loadgen.gate.verdict import Verdict
from loadgen.results.comparefile import Answer, CompareFile
from tests.unit.loadgen.comparisons import answer, comparison_of, noisy_pairs
from tests.unit.loadgen.runs import good_run, make_ledger, make_run

REPLACE = msgspec.structs.replace
BUDGET = "[models.imagenet]\nmean_ms = 250\np95_ms = 500\n"
OTHER = "'dog' instead of 'cat' in row 0, asked alone"


def compared(*answers: Answer, ratio: float = 1.0, **changes: Any) -> CompareFile:
    pairs = noisy_pairs(10, ratio, 0.01, 1) + noisy_pairs(10, ratio, 0.01, 1, batch=2)
    return comparison_of(pairs, answers=list(answers), **changes)


def verdict_on(compare: CompareFile, more: str = "") -> Verdict:
    return judge(parse_budgets(BUDGET + more, "b"), good_run(), compare)


def test_the_same_answers_pass_and_are_shown() -> None:
    found = verdict_on(compared(answer(), answer(payload="rocket.jpg", difference=0.0001)))
    assert found.exit_code == 0
    shown = {check.name: (check.measured, check.required) for check in found.checks if check.kind == "answers"}
    assert shown == {
        "answer to cat.jpg": ("0", "within 0.01 of the base's"),
        "answer to rocket.jpg": ("0.0001", "within 0.01 of the base's"),
    }


@pytest.mark.parametrize("difference", [0.011, 0.5, None])
def test_faster_and_wrong_is_wrong(difference: float | None) -> None:
    found = verdict_on(compared(answer(), answer(difference=difference, what=OTHER), ratio=0.5))
    assert (found.status, found.exit_code) == ("wrong answers", 12)
    [reason] = found.reasons
    assert reason.startswith("The candidate does not answer cat.jpg as the base does: ")
    assert OTHER in reason
    assert "0.01 is allowed. If the model is meant to answer otherwise now, raise its version in models.toml." in reason


def test_wrong_comes_before_slow_and_after_invalid() -> None:
    wrong = compared(answer(difference=None, what=OTHER), ratio=1.5)
    assert verdict_on(wrong).exit_code == 12
    over = judge(parse_budgets(BUDGET, "b"), make_run(make_ledger([600.0] * 200)), wrong)
    assert over.exit_code == 12
    assert judge(parse_budgets(BUDGET, "b"), good_run(89), wrong).exit_code == 20


@pytest.mark.parametrize(("within", "code"), [("0", 12), ("0.019", 12), ("0.02", 0), ("1", 0)])
def test_each_model_has_a_tolerance_of_its_own(within: str, code: int) -> None:
    compare = compared(answer(difference=0.02, what=OTHER))
    assert verdict_on(compare, f"answers_within = {within}\n").exit_code == code


def test_no_tolerance_makes_up_for_what_is_no_number() -> None:
    assert verdict_on(compared(answer(difference=None, what=OTHER)), "answers_within = 1\n").exit_code == 12


def test_a_candidate_without_an_answer_is_wrong() -> None:
    found = verdict_on(compared(answer(candidate_failure="status 500", difference=None)))
    assert found.exit_code == 12
    assert found.reasons == ("The candidate gave no answer to cat.jpg: status 500.",)


def test_what_the_base_could_not_answer_is_a_note() -> None:
    broken = answer(payload="rocket.jpg", base_failure="status 500", difference=None, own_difference=None)
    found = verdict_on(compared(answer(), broken))
    assert found.exit_code == 0
    assert "The base gave no answer to rocket.jpg (status 500), so none was compared." in found.notes
    alone = verdict_on(compared(broken))
    assert alone.exit_code == 20
    assert alone.reasons == ("No answer of the candidate was compared with the base's.",)


def test_an_empty_list_is_no_comparison() -> None:
    assert verdict_on(compared()).exit_code == 20


def versions(compare: CompareFile, base: str, candidate: str) -> CompareFile:
    sides = {
        name: REPLACE(getattr(compare, name), card={"name": "imagenet", "precision": "fp32", "version": version})
        for name, version in (("base", base), ("candidate", candidate))
    }
    return REPLACE(compare, **sides)


def test_a_model_whose_version_was_raised_may_answer_otherwise() -> None:
    compare = compared(answer(difference=0.5, what=OTHER))
    assert verdict_on(versions(compare, "1", "1")).exit_code == 12
    accepted = verdict_on(versions(compare, "1", "2"))
    assert accepted.exit_code == 0
    [warning] = [one for one in accepted.warnings if "version" in one]
    assert warning == (
        f"The version of 'imagenet' changed from 1 to 2, and so did its answer to cat.jpg: by 0.5, {OTHER}."
    )
    failing = compared(answer(candidate_failure="status 500", difference=None))
    assert verdict_on(versions(failing, "1", "2")).exit_code == 12


def test_a_model_that_never_answers_twice_alike_is_told_how_to_say_so() -> None:
    compare = compared(answer(difference=0.5, what=OTHER, own_difference=0.4))
    found = verdict_on(compare)
    assert found.exit_code == 12
    assert (
        "Nor does the base itself, each time: for a model like that, set answers_compared = false." in found.reasons[0]
    )
    left_out = verdict_on(compare, "answers_compared = false\n")
    assert left_out.exit_code == 0
    assert "The budgets say that answers of 'imagenet' are not to be compared." in left_out.notes


def test_streams_are_not_asked() -> None:
    found = verdict_on(comparison_of(noisy_pairs(10, 1.0, 0.01, 1), answers=None))
    assert found.exit_code == 0
    assert any("The answers were not compared" in note for note in found.notes)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "answers_within = 0.02\n", "answers_within was loosened from 0.01 to 0.02"),
        ("", "answers_compared = false\n", "answers are not compared any more"),
        ("answers_within = 0.02\n", "", None),
    ],
)
def test_loosening_is_shown(before: str, after: str, said: str | None) -> None:
    found = loosened(parse_budgets(BUDGET + before, "b"), parse_budgets(BUDGET + after, "b"))
    assert found == (() if said is None else (f"imagenet: {said}.",))

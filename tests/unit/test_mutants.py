"""When a trial of the gate counts: the right exit code, for the right reason, of a measurement that came about."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadgen.budgets import parse_budgets
from loadgen.errors import LoadgenError
from loadgen.gate.run_gate import judge
from loadgen.gate.verdict import Verdict
from loadgen.reports import text
from loadgen.results import runfile
from loadgen.results.comparefile import CompareFile
from tests.proof import mutants
from tests.proof.mutants import MUTANTS, check_reason, enough
from tests.unit.loadgen.comparisons import answer, comparison_of, noisy_pairs
from tests.unit.loadgen.runs import good_run, make_ledger, make_run

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
BUDGETS = parse_budgets('[models.imagenet]\nmean_ms = 250\np95_ms = 500\nprecision = "fp32"\n', "budgets.toml")
REPLACE = msgspec.structs.replace


def served(
    run: runfile.RunFile, precision: str = "fp32", items: runfile.RequestCounter | None = None
) -> runfile.RunFile:
    card = {"name": "imagenet", "precision": precision}
    return REPLACE(run, service=REPLACE(run.service, card=card, items=items))


def compared(ratio: float) -> CompareFile:
    return comparison_of(noisy_pairs(10, ratio, 0.01, 1) + noisy_pairs(10, ratio, 0.01, 1, batch=2))


def verdict_on(name: str) -> Verdict:
    """What the gate says of a run that has the mutant's fault."""
    run = served(good_run())
    if name == "errors":
        ledger = make_ledger([100.0] * 160)
        ledger.outcome[7] = ledger.http_outcome(422, "invalid_input")
        run = served(make_run(ledger))
    elif name == "killed":
        run = served(run, items=runfile.RequestCounter("items", 5.0, 900.0, 895.0))
    elif name == "throttled":
        lag = REPLACE(run.validity.pacing_lag, p99_ms=250.0)
        run = REPLACE(run, validity=REPLACE(run.validity, pacing_lag=lag))
    elif name == "few":
        run = served(good_run(50))
    elif name == "precision":
        run = served(run, precision="bf16")
    elif name == "delayed":
        run = served(make_run(make_ledger([650.0] * 160)))
    if name == "empty":
        return judge(BUDGETS, "out/run.json is empty.")
    ratios = {"none": 1.0, "slower": 1.3, "unbatched": 2.0, "slightly-slower": 1.1, "wrong": 0.5, "mixed": 1.0}
    if name not in ratios:
        return judge(BUDGETS, run)
    compare = compared(ratios[name])
    if name in ("wrong", "mixed"):
        how = "alone" if name == "wrong" else "among others"
        compare = REPLACE(
            compare, answers=[answer(difference=None, what=f"output 'output'[0], 1 instead of 0, asked {how}")]
        )
    return judge(BUDGETS, run, compare)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_gate_says_what_a_mutants_trial_looks_for(name: str) -> None:
    """And no other fault says it: a trial cannot be right for the wrong reason."""
    mutant, printed = BY_NAME[name], text.verdict_text(verdict_on(name)).replace("imagenet", mutants.MODEL)
    check_reason(mutant, mutant.expected, printed, Path("gate.log"))
    same = {one.name for one in MUTANTS if one.says == mutant.says}
    for other in BY_NAME.keys() - same:
        assert mutant.says not in text.verdict_text(verdict_on(other)).replace("imagenet", mutants.MODEL), other


@pytest.mark.parametrize("name", BY_NAME)
def test_the_right_code_for_another_reason_is_not_right(name: str) -> None:
    mutant = BY_NAME[name]
    printed = text.verdict_text(judge(BUDGETS, "Cannot read out/run.json: No such file or directory."))
    with pytest.raises(LoadgenError, match=r"gate\.log lacks"):
        check_reason(mutant, mutant.expected, printed, Path("gate.log"))
    check_reason(mutant, 10 if mutant.expected != 10 else 11, printed, Path("gate.log"))  # wrong by its code already


def test_a_trial_without_a_verdict_is_never_good_enough() -> None:
    assert enough(BY_NAME["none"], [0] * 59 + [20])
    assert not enough(BY_NAME["none"], [0] * 59 + [1])
    assert enough(BY_NAME["slower"], [11] * 19 + [20])
    assert not enough(BY_NAME["slower"], [11] * 19 + [2])

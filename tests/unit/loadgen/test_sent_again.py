"""How many requests may have been sent twice before a run proves nothing."""

from __future__ import annotations

import pytest

from loadgen.budgets import parse_budgets
from loadgen.gate.run_gate import judge
from tests.unit.loadgen.runs import make_ledger, make_run

BUDGETS = parse_budgets("[models.imagenet]\nmean_ms = 250\np95_ms = 500\n", "budgets.toml")


@pytest.mark.parametrize(("count", "resent", "code"), [(1000, 10, 0), (1000, 11, 20), (99, 0, 0), (99, 1, 20)])
def test_more_than_one_in_a_hundred_sent_again_makes_a_run_invalid(count: int, resent: int, code: int) -> None:
    ledger = make_ledger([100.0] * count)
    ledger.resent = resent
    verdict = judge(BUDGETS, make_run(ledger))
    assert verdict.exit_code == code
    if code:
        assert verdict.reasons[0].startswith(f"{resent} requests had to be sent again")
    elif resent:
        assert any("10 requests were sent again" in note for note in verdict.notes)

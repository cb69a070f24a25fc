"""The gate on chats: budgets of TTFT, ITL and goodput fail by name, and a slower candidate is told from noise."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from loadgen.budgets import Budgets, loosened, parse_budgets
from loadgen.comparing import regression
from loadgen.errors import LoadgenError
from loadgen.gate.run_gate import judge
from loadgen.gate.verdict import Verdict
from loadgen.results.comparefile import Pair
from loadgen.results.ledger import TIMEOUT
from loadgen.results.runfile import RunFile
from tests.unit.loadgen.comparisons import comparison_of, window
from tests.unit.loadgen.runs import HASH
from tests.unit.loadgen.workloads.chat_runs import chat_run

TEXT = """\
[models.talk]
ttft_ms = { p95 = 100 }
itl_ms = { p95 = 20, p99 = 40 }
goodput = 0.9
rate_per_s = 50
[models.talk.workload]
kind = "chat"
ttft_objective_ms = 100
itl_objective_ms = 20
"""


def budgets(**changes: str) -> Budgets:
    text = TEXT
    for old, new in changes.items():
        assert f"\n{old} = " in text
        lines = [f"{old} = {new}" if line.startswith(f"{old} = ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    return parse_budgets(text, "budgets.toml")


def verdict_on(run: RunFile | None = None, given: Budgets | None = None) -> Verdict:
    return judge(given or budgets(), run or chat_run(1000, lambda number: (50.0, 10.0)), payload=(HASH,))


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if check.kind == "budget" and not check.passed]


def test_a_good_run_passes_and_every_figure_is_shown() -> None:
    verdict = verdict_on()
    assert (verdict.status, verdict.reasons) == ("pass", ())
    shown = {check.name: check.measured for check in verdict.checks if check.kind == "budget"}
    assert shown == {
        "TTFT p95": "50 ms",
        "TTFT p95: requests over 100 ms": "0 of 1000",
        "ITL p95": "10 ms",
        "ITL p95: requests over 20 ms": "0 of 1000",
        "ITL p99": "10 ms",
        "ITL p99: requests over 40 ms": "0 of 1000",
        "goodput": "100.0%",
        "goodput: requests that missed": "0 of 1000",
    }


def test_each_budget_fails_by_its_name() -> None:
    slow_start = verdict_on(chat_run(1000, lambda number: (50.0 if number % 16 else 150.0, 10.0)))
    assert failed(slow_start) == ["TTFT p95", "TTFT p95: requests over 100 ms"]
    assert slow_start.exit_code == 10
    assert slow_start.reasons[0] == "The p95 of the time to first token (TTFT) is 150 ms; the budget is 100 ms."
    halting = verdict_on(chat_run(1000, lambda number: (50.0, 10.0 if number % 16 else 30.0)))
    assert failed(halting) == ["ITL p95", "ITL p95: requests over 20 ms"]
    seldom = verdict_on(chat_run(1000, lambda number: (50.0, 10.0 if number % 50 else 60.0)))
    assert failed(seldom) == ["ITL p99", "ITL p99: requests over 40 ms"]
    both = verdict_on(chat_run(1000, lambda number: ((130.0, 10.0), (50.0, 30.0), *[(50.0, 10.0)] * 14)[number % 16]))
    assert [name for name in failed(both) if "goodput" in name] == ["goodput", "goodput: requests that missed"]
    assert "The goodput is 87.4% of the requests (TTFT within 100 ms, ITL within 20 ms)" in " ".join(both.reasons)


def test_a_claim_needs_enough_requests() -> None:
    few = verdict_on(chat_run(200, lambda number: (50.0, 10.0)))
    assert failed(few) == ["ITL p99: requests over 40 ms"]
    assert "needs 459 requests or more" in few.reasons[0]


def test_a_request_that_failed_is_infinitely_slow() -> None:
    run = chat_run(1000, lambda number: (50.0, 10.0), outcome_of=lambda number: TIMEOUT if number % 10 == 0 else 0)
    verdict = verdict_on(run)
    assert verdict.status == "invalid"
    assert {"TTFT p95", "ITL p95", "ITL p99"} <= set(failed(verdict))


def test_a_run_of_something_else_does_not_pass() -> None:
    run = chat_run(1000, lambda number: (50.0, 10.0))
    workload = run.configuration.workload
    assert workload is not None
    other = msgspec.structs.replace(workload, ttft_objective_ms=900.0)
    changed = msgspec.structs.replace(run.configuration, workload=other)
    assert "its figures of tokens" in verdict_on(msgspec.structs.replace(run, configuration=changed)).reasons[0]
    shorter = msgspec.structs.replace(run.configuration, workload=msgspec.structs.replace(workload, input_words=9.0))
    verdict = verdict_on(msgspec.structs.replace(run, configuration=shorter))
    assert verdict.reasons == ("The workload of the run is not that of the budgets: it differs in input_words.",)
    none = msgspec.structs.replace(
        run,
        configuration=msgspec.structs.replace(run.configuration, workload=None),
        tokens=None,
        requests=msgspec.structs.replace(run.requests, tokens=None),
    )
    verdict = verdict_on(none)
    assert verdict.status == "invalid" and failed(verdict) == ["ttft_ms", "itl_ms", "goodput"]
    texts = judge(budgets(), run, payload=("ff",))
    assert texts.reasons == ("The run sent workload chat, which is not what the budgets name as payload.",)


@pytest.mark.parametrize("column", ["first_us", "output_tokens", "worst_gap_us"])
def test_columns_that_contradict_the_figures_are_noticed(column: str) -> None:
    run = chat_run(100, lambda number: (50.0, 10.0))
    assert run.requests.tokens is not None
    values: list[Any] = list(getattr(run.requests.tokens, column))
    values[3] = 1
    tokens = msgspec.structs.replace(run.requests.tokens, **{column: values})
    broken = msgspec.structs.replace(run, requests=msgspec.structs.replace(run.requests, tokens=tokens))
    assert verdict_on(broken).status == "invalid"
    shorter = msgspec.structs.replace(tokens, **{column: values[:-1]})
    broken = msgspec.structs.replace(run, requests=msgspec.structs.replace(run.requests, tokens=shorter))
    assert "differ in length" in verdict_on(broken).reasons[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("{ p95 = 100 }", "{}"), "give p95, p99 or both"),
        (TEXT.replace("{ p95 = 100 }", "100"), "ttft_ms"),
        (TEXT.replace("goodput = 0.9", "goodput = 1.5"), "goodput"),
        (TEXT.replace('kind = "chat"', 'kind = "embed"'), "ttft_objective_ms does not belong"),
        (TEXT.partition("[models.talk.workload]")[0], "ttft_ms needs a workload of the kind chat"),
        (TEXT.replace("rate_per_s = 50", 'payload = "LICENSE"'), "give payload or workload, not both"),
        (TEXT + "[gate]\npairs = 9\n", "pairs must be 10 or more"),
    ],
)
def test_budgets_that_make_no_sense(text: str, says: str) -> None:
    with pytest.raises(LoadgenError, match=says):
        parse_budgets(text, "budgets.toml")


def test_loosening_is_said() -> None:
    base = budgets()
    now = parse_budgets(
        TEXT.replace("p95 = 100", "p95 = 250")
        .replace(", p99 = 40", "")
        .replace("0.9", "0.5")
        .replace("= 20\n", "= 30\n"),
        "b",
    )
    assert loosened(base, now) == (
        "talk: ttft_ms p95 was loosened from 100 to 250.",
        "talk: itl_ms p99 was loosened from 40 to nothing.",
        "talk: goodput was loosened from 0.9 to 0.5.",
        "talk: the workload was changed in itl_objective_ms.",
    )
    assert loosened(base, base) == ()


def pairs(noise: float, batch: int = 1, **slower: float) -> list[Pair]:
    """Ten pairs in which the candidate's figures are so many times the base's, and noise on both."""
    rng, made = random.Random(f"{noise}:{batch}"), []
    for number in range(10):
        figures = {"ttft_ms": 20.0, "itl_ms": 10.0, "goodput": 1.0}
        base = {name: value * rng.lognormvariate(0, noise) for name, value in figures.items()}
        now = {name: value * rng.lognormvariate(0, noise) * slower.get(name, 1.0) for name, value in figures.items()}
        for one in (base, now):
            one["goodput"] = min(one["goodput"], 1.0)
        first: Any = "base" if number % 2 == 0 else "candidate"
        made.append(Pair(1 if batch == 1 else 2, 1000 * batch + number, first, window(**base), window(**now)))
    return made


def decided(noise: float, **slower: float) -> regression.Decision:
    return regression.decide(pairs(noise, 1, **slower) + pairs(noise, 2, **slower), budgets().gate)


@pytest.mark.parametrize(
    ("metric", "slower"), [("TTFT", {"ttft_ms": 1.3}), ("ITL", {"itl_ms": 1.3}), ("goodput", {"goodput": 0.8})]
)
def test_a_slower_candidate_is_a_regression_of_that_name(metric: str, slower: dict[str, float]) -> None:
    decision = decided(0.03, **slower)
    assert decision.outcome == "regression"
    assert [finding.metric for finding in decision.regressed] == [metric]


def test_noise_is_no_regression_and_too_much_of_it_no_answer() -> None:
    assert decided(0.03).outcome == "clear"
    assert decided(0.0).outcome == "clear"  # pairs that are all alike are no question that was asked
    assert decided(0.6).outcome == "noisy"
    assert (
        regression.decide(pairs(0.03, goodput=0.0) + pairs(0.03, 2, goodput=0.0), budgets().gate).outcome
        == "regression"
    )


def test_the_gate_says_which_figure_of_the_comparison_got_worse() -> None:
    run = chat_run(1000, lambda number: (50.0, 10.0))
    compare = comparison_of(pairs(0.03, ttft_ms=1.5) + pairs(0.03, 2, ttft_ms=1.5), model="talk")
    plan = msgspec.structs.replace(
        compare.plan,
        rate_per_s=50.0,
        workload=run.configuration.workload,
        payloads=run.configuration.payloads,
    )
    verdict = judge(budgets(), run, msgspec.structs.replace(compare, plan=plan), payload=(HASH,))
    assert verdict.status == "regression" and verdict.exit_code == 11
    assert len(verdict.reasons) == 1 and verdict.reasons[0].startswith("Against the base, TTFT changed by +")
    other = msgspec.structs.replace(plan, workload=None)
    verdict = judge(budgets(), run, msgspec.structs.replace(compare, plan=other), payload=(HASH,))
    assert verdict.status == "invalid"

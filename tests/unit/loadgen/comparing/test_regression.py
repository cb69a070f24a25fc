"""When the candidate is called slower, and when not: every outcome, and the rates of false alarm and detection."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.budgets import GateSettings, ModelBudget, parse_budgets
from loadgen.comparing import regression
from loadgen.gate import regression_gate
from loadgen.gate.run_gate import judge
from loadgen.results.comparefile import CompareFile, Pair, Side
from loadgen.results.runfile import Commit, RequestCounter
from tests.unit.loadgen.comparisons import comparison_of, noisy_pairs, pair, window
from tests.unit.loadgen.runs import good_run

SETTINGS = GateSettings()
BUDGETS = parse_budgets("[models.imagenet]\nmean_ms = 250\np95_ms = 500\n", "b")


def both(ratio: float, noise: float = 0.01, seed: int = 1) -> list[Pair]:
    return noisy_pairs(10, ratio, noise, seed) + noisy_pairs(10, ratio, noise, seed, batch=2)


def verdict(compare: CompareFile | str) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    found = judge(BUDGETS, good_run(), compare)
    return found.exit_code, found.reasons, found.notes


def test_alike_is_a_pass_and_every_figure_is_shown() -> None:
    found = judge(BUDGETS, good_run(), comparison_of(noisy_pairs(10, 1.0, 0.01, 1)))
    assert (found.exit_code, found.status) == (0, "pass")
    shown = {check.name: check for check in found.checks}
    for name, margin in (("mean", "+5.0%"), ("p95", "+10.0%"), ("throughput", "-5.0%")):
        check = shown[f"{name} against the base"]
        assert "95% interval" in check.measured
        assert "10 pairs, p = " in check.measured
        assert check.required == f"no worse than {margin}"


def test_slower_twice_is_a_regression_with_its_numbers() -> None:
    code, reasons, _ = verdict(comparison_of(both(1.3)))
    assert code == 11
    assert len(reasons) == 3
    assert reasons[0].startswith("Against the base, mean changed by +29.3%")
    assert "p = 0.0029" in reasons[0]
    assert "the margin is +5.0%. Two independent batches say so" in reasons[0]


def test_faster_is_no_regression() -> None:
    assert verdict(comparison_of(noisy_pairs(10, 0.7, 0.01, 1)))[0] == 0


def test_slower_within_the_margin_is_no_regression_however_certain() -> None:
    decision = regression.decide([pair(number, 1.04 + number / 1e4) for number in range(10)], SETTINGS)
    assert decision.outcome == "clear"
    assert all(finding.p < 0.01 for finding in decision.first)


def test_a_flag_that_is_not_confirmed_is_a_pass_with_a_note() -> None:
    pairs = noisy_pairs(10, 1.3, 0.01, 1) + noisy_pairs(10, 1.0, 0.01, 1, batch=2)
    code, _, notes = verdict(comparison_of(pairs))
    assert code == 0
    assert any("a second, independent one did not confirm it" in note for note in notes)


def test_a_flag_without_a_second_batch_proves_nothing() -> None:
    code, reasons, _ = verdict(comparison_of(noisy_pairs(10, 1.3, 0.01, 1)))
    assert code == 20
    assert "no whole second one to confirm it" in reasons[0]


def test_too_noisy_to_tell() -> None:
    code, reasons, _ = verdict(comparison_of(noisy_pairs(20, 1.0, 0.6, 3)))
    assert code == 20
    assert reasons[0].startswith("Too noisy to tell: after 20 pairs the ratio of ")


def test_one_wild_pair_is_no_regression() -> None:
    pairs = noisy_pairs(9, 1.0, 0.005, 2)
    assert regression.decide([*pairs, pair(9, 3.0)], SETTINGS).outcome in ("clear", "noisy")


def test_a_batch_goes_on_while_it_is_too_noisy_and_never_looks_at_the_ratio() -> None:
    wild = noisy_pairs(20, 1.0, 0.6, 4)
    assert regression.wants_more([], SETTINGS)
    assert regression.wants_more(wild[:10], SETTINGS)
    assert not regression.wants_more(wild, SETTINGS)
    for ratio in (0.5, 1.0, 2.0):
        assert regression.wants_more(noisy_pairs(9, ratio, 0.01, 1), SETTINGS)
        assert not regression.wants_more(noisy_pairs(10, ratio, 0.01, 1), SETTINGS)


@pytest.mark.parametrize(
    ("noise", "ratio", "least", "most"),
    [(0.02, 1.0, 0, 0), (0.05, 1.0, 0, 1), (0.10, 1.0, 0, 3), (0.03, 1.1, 285, 300), (0.05, 1.3, 297, 300)],
)
def test_false_alarms_and_detection(noise: float, ratio: float, least: int, most: int) -> None:
    """Of 300 comparisons each; the three metrics of a pair are disturbed independently."""
    rng = random.Random(7)

    def batch(number: int) -> list[Pair]:
        made = []
        for index in range(10):
            mean, p95, throughput = (ratio * rng.lognormvariate(0, noise) for _ in range(3))
            slow = window(30 * mean, 40 * p95, 600 / throughput)
            made.append(msgspec.structs.replace(pair(index, batch=2 if number == 2 else 1), candidate=slow))
        return made

    alarms = 0
    for _ in range(300):
        first = batch(1)
        decision = regression.decide(first, SETTINGS)
        if decision.outcome == "incomplete":
            decision = regression.decide(first + batch(2), SETTINGS)
        alarms += decision.outcome == "regression"
    assert least <= alarms <= most


def served(compare: CompareFile, **changes: Any) -> CompareFile:
    return msgspec.structs.replace(compare, candidate=msgspec.structs.replace(compare.candidate, **changes))


GOOD = comparison_of(noisy_pairs(10, 1.0, 0.01, 1))
DEAD: dict[str, Any] = {
    "ok": 95,
    "failures": {"status 504 timeout": 5},
    "mean_ms": None,
    "p95_ms": None,
    "throughput_per_s": None,
}
INVALID: dict[str, tuple[CompareFile | str, str]] = {
    "broken off": (msgspec.structs.replace(GOOD, partial=True), "The comparison was broken off"),
    "no pairs": (comparison_of([]), "Only 0 pairs of windows were measured; 10 are needed"),
    "too few": (comparison_of(GOOD.pairs[:9]), "Only 9 pairs"),
    "another model": (comparison_of(GOOD.pairs, model="echo"), "measured 'echo' and the run 'imagenet'"),
    "failures": (comparison_of([*GOOD.pairs, pair(10, **DEAD)]), "5 requests of the candidate failed: 5 x status 504"),
    "late": (
        comparison_of([pair(number, lag_p95_ms=300.0) for number in range(10)]),
        "the generator itself was late",
    ),
    "dead consumer": (served(GOOD, items=RequestCounter("c", 0.0, 10.0, 10.0)), "or a consumer died"),
    "restarted consumer": (served(GOOD, items=RequestCounter("c", 9.0, 1.0, None)), "unknown (a restart)"),
    "precisions": (served(GOOD, card={"precision": "bf16"}), "The base served fp32 and the candidate bf16"),
    "same seed": (comparison_of([pair(0)] * 10), "contradicts itself: two pairs have the same seed"),
    "counts": (comparison_of([*GOOD.pairs, pair(10, ok=99)]), "contradicts itself: a window's failures"),
    "no figures": (comparison_of([*GOOD.pairs, pair(10, mean_ms=None)]), "has no figures"),
    "missing": ("Cannot read compare.json: No such file or directory.", "Cannot read compare.json"),
}


@pytest.mark.parametrize("name", INVALID)
def test_each_reason_for_an_invalid_comparison(name: str) -> None:
    compare, says = INVALID[name]
    code, reasons, _ = verdict(compare)
    assert code == 20
    assert any(says in reason for reason in reasons), reasons


def test_precision_and_commit_of_both_sides() -> None:
    budget = ModelBudget(mean_ms=250, precision="bf16")
    checks, _ = regression_gate.judge(SETTINGS, budget, "imagenet", GOOD, None)
    assert [check.name for check in checks if not check.passed] == ["base's precision", "candidate's precision"]
    other = served(GOOD, version={"commit": "d" * 40})
    checks, _ = regression_gate.judge(SETTINGS, None, "imagenet", other, "c" * 40)
    assert all(check.passed for check in checks)  # without budgets nothing is expected
    checks, _ = regression_gate.judge(SETTINGS, ModelBudget(mean_ms=1), "imagenet", other, "c" * 40)
    assert [check.name for check in checks if not check.passed] == ["candidate's commit"]


def test_over_budget_comes_before_an_invalid_comparison_and_after_an_invalid_run() -> None:
    tight = parse_budgets("[models.imagenet]\nmean_ms = 50\n", "b")
    assert judge(tight, good_run(), "missing").exit_code == 10
    assert judge(tight, good_run(10), comparison_of(both(1.3))).exit_code == 20
    assert judge(BUDGETS, good_run(), comparison_of(both(1.3))).exit_code == 11


def test_what_differs_by_the_services_own_account_is_noted() -> None:
    unbatched = served(GOOD, card={"precision": "fp32", "batch": {"max_batch": 1}})
    assert any("differs in batch" in note for note in verdict(unbatched)[2])


def test_infinities_never_reach_a_verdict() -> None:
    huge = regression.findings([pair(number, 1e200) for number in range(10)], SETTINGS, 0.01)
    assert all(math.isfinite(finding.p) for finding in huge)


def test_a_flag_that_noise_keeps_from_being_confirmed_is_too_noisy_to_tell() -> None:
    pairs = noisy_pairs(10, 1.3, 0.01, 1) + noisy_pairs(20, 1.0, 0.6, 3, batch=2)
    found = judge(BUDGETS, good_run(), comparison_of(pairs))
    assert found.exit_code == 20
    assert found.reasons[0].startswith("Too noisy to tell: after 20 pairs the ratio of ")


def test_a_metric_that_was_never_known_is_no_pass_beside_a_flag_on_another() -> None:
    rng = random.Random(5)
    wild = [pair(number, 1.3, throughput_per_s=600 * rng.lognormvariate(0, 0.6)) for number in range(20)]
    decision = regression.decide([*wild, *noisy_pairs(10, 1.0, 0.01, 1, batch=2)], SETTINGS)
    assert [finding.metric for finding in decision.first if finding.flagged] == ["mean", "p95"]
    assert decision.outcome == "noisy"
    compare = comparison_of([*wild, *noisy_pairs(10, 1.0, 0.01, 1, batch=2)])
    assert "after 20 pairs the ratio of throughput is known no better than" in verdict(compare)[1][0]


@settings(deadline=None, max_examples=50)
@given(
    ratios=st.tuples(st.floats(0.8, 1.5), st.floats(0.8, 1.5)),
    noise=st.tuples(st.floats(0.001, 0.8), st.floats(0.001, 0.8)),
    seed=st.integers(0, 1000),
)
def test_nothing_passes_whose_ratio_is_not_known(
    ratios: tuple[float, float], noise: tuple[float, float], seed: int
) -> None:
    pairs = noisy_pairs(10, ratios[0], noise[0], seed) + noisy_pairs(10, ratios[1], noise[1], seed, batch=2)
    decision = regression.decide(pairs, SETTINGS)
    if decision.outcome in ("clear", "suspicion"):
        assert not regression.is_noisy(decision.last, SETTINGS)


def checked_out(base: Side, candidate: Side) -> CompareFile:
    return msgspec.structs.replace(GOOD, base=base, candidate=candidate)


def side_of(commit: str, serves: str | None, dirty: bool = False, **settings: str) -> Side:
    version = {"version": "1", "commit": serves}
    return msgspec.structs.replace(GOOD.base, commit=Commit(commit, dirty), version=version, settings=settings)


OLD, NEW = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("base", "candidate", "says"),
    [
        (side_of(OLD, OLD), side_of(NEW, NEW), None),
        (side_of(OLD, None), side_of(NEW, None), None),  # they do not say
        (side_of(OLD, NEW), side_of(NEW, NEW), "The base's service is of commit bbbbbbbbbbbb, not aaaaaaaaaaaa."),
        (side_of(OLD, OLD), side_of(NEW, OLD), "The candidate's service is of commit aaaaaaaaaaaa, not bbbbbbbbbbbb."),
    ],
)
def test_each_side_serves_the_commit_of_its_checkout(base: Side, candidate: Side, says: str | None) -> None:
    code, reasons, _ = verdict(checked_out(base, candidate))
    assert (code, reasons) == ((0, ()) if says is None else (20, (says,)))


def test_a_commit_that_must_be_served_and_is_not_told_is_invalid() -> None:
    found = judge(BUDGETS, good_run(), checked_out(side_of(OLD, OLD), side_of(NEW, None)), expected_commit=NEW)
    assert "The candidate's service does not say of which commit it is; bbbbbbbbbbbb is expected." in [
        check.sentence for check in found.checks if not check.passed
    ]


def test_a_commit_compared_with_itself_passes_with_a_warning() -> None:
    same = checked_out(side_of(OLD, OLD), side_of(OLD, OLD))
    found = judge(BUDGETS, good_run(), same)
    assert found.exit_code == 0
    assert found.warnings == (
        "Base and candidate are the same commit, aaaaaaaaaaaa: this shows how noisy the comparison is, and no change.",
    )
    changed = side_of(OLD, OLD, dirty=True)
    assert judge(BUDGETS, good_run(), checked_out(changed, changed)).warnings == ()  # nobody knows how
    for other in (changed, side_of(OLD, OLD, HEADRACE_MAX_BATCH="1"), side_of(NEW, NEW)):
        assert judge(BUDGETS, good_run(), checked_out(side_of(OLD, OLD), other)).warnings == ()


def windows(
    late: int = 0, lag_ms: float = 300.0, base: float | None = 0.1, candidate: float | None = 0.1
) -> list[Pair]:
    """Ten pairs; in the first `late` of them the generator was late to the candidate."""
    made = []
    for number in range(10):
        lag = lag_ms if number < late else 0.5
        one = pair(number, lag_p95_ms=lag, cpu_share=candidate)
        made.append(msgspec.structs.replace(one, base=window(cpu_share=base)))
    return made


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (windows(late=5), None),  # of twenty windows
        (windows(late=6), "In a quarter of the windows the generator itself was late (p95 300 ms or more)"),
        (windows(base=0.8, candidate=0.8), None),
        (windows(base=0.95), "The generator used 95% of a core in half of the windows of one side"),
        (windows(candidate=0.81), "The generator used 81% of a core"),
        (windows(base=None), "The generator used an unknown part of a core"),
    ],
)
def test_a_comparison_in_which_the_generator_was_the_limit_proves_nothing(pairs: list[Pair], says: str | None) -> None:
    """A base that waits for the generator hides how much slower the candidate is."""
    code, reasons, _ = verdict(comparison_of(pairs))
    assert code == (0 if says is None else 20)
    assert [reason[: len(says or "")] for reason in reasons] == ([] if says is None else [says])

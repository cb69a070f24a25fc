"""The gate's part on a comparison: is it fit to be judged, and is the candidate slower than the base? Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadgen.budgets import GateSettings, ModelBudget
from loadgen.comparing import regression
from loadgen.results import stats
from loadgen.results.comparefile import CompareFile, Pair, Side, Window

from . import answer_check, terms
from .verdict import Check, Kind, number, percent, unusable

_WINDOWS_IN_TIME: Final = 0.75
"""Share of the windows in which the generator must have been in time; a hiccup of the machine spoils a few."""


def judge(
    settings: GateSettings,
    budget: ModelBudget | None,
    model: str,
    compare: CompareFile | str,
    expected_commit: str | None,
    payload: terms.Hashes = None,
) -> tuple[list[Check], tuple[str, ...]]:
    """Return the checks on a comparison, and notes.

    Args:
        compare: the file, or the sentence that says why there is none to be read.
        payload: hashes of what the budgets name as payload of this model.
    """
    if isinstance(compare, str):
        return [unusable(compare, kind="comparison")], ()
    contradiction = find_contradiction(compare)
    if contradiction is not None:
        return [unusable(f"The comparison contradicts itself: {contradiction}.", kind="comparison")], ()
    checks = judge_validity(settings, model, compare)
    if budget is not None:
        checks += terms.judge_plan(budget, compare.plan)
        checks += terms.judge_workload("comparison", "comparison", compare.plan.workload, budget)
        checks += terms.judge_payload("comparison", "comparison", compare.plan.payloads, payload)
        for name, side, commit in (
            ("base's ", compare.base, _checked_out(compare.base)),
            ("candidate's ", compare.candidate, expected_commit or _checked_out(compare.candidate)),
        ):
            checks += judge_served("comparison", name, side.card, side.version, budget, commit)
    decision = regression.decide(compare.pairs, settings)
    checks += _decided(settings, decision, len(compare.pairs))
    answers, _, said = answer_check.judge(budget, compare)
    checks += answers
    notes = [*_differences(compare), *said]
    for name, side in (("base", compare.base), ("candidate", compare.candidate)):
        if side.items is None:
            notes.append(
                f"The {name} showed no consumer's counter, so their count was not compared with the generator's."
            )
    if decision.outcome == "suspicion":
        names = ", ".join(finding.metric for finding in decision.first if finding.flagged)
        notes.append(f"A first batch of pairs flagged {names}; a second, independent one did not confirm it.")
    return checks, tuple(notes)


def judge_validity(settings: GateSettings, model: str, compare: CompareFile) -> list[Check]:
    """Judge whether the comparison can prove anything."""
    checks: list[Check] = []

    def check(name: str, measured: str, required: str, passed: bool, sentence: str) -> None:
        checks.append(Check("comparison", name, measured, required, passed, "" if passed else sentence))

    check(
        "comparison complete",
        "no" if compare.partial else "yes",
        "yes",
        not compare.partial,
        "The comparison was broken off.",
    )
    check(
        "model compared",
        compare.plan.model,
        model,
        compare.plan.model == model,
        f"The comparison measured {compare.plan.model!r} and the run {model!r}.",
    )
    count = sum(pair.batch == 1 for pair in compare.pairs)
    check(
        "pairs of windows",
        str(count),
        f"at least {settings.pairs}",
        count >= settings.pairs,
        f"Only {count} pairs of windows were measured; {settings.pairs} are needed for a verdict.",
    )
    lags = [lag for pair in compare.pairs for window in _windows(pair) if (lag := window.lag_p95_ms) is not None]
    lag_ms = stats.percentile(sorted(lags), _WINDOWS_IN_TIME) if lags else None
    check(
        f"generator's lag, p95, in {_WINDOWS_IN_TIME:.0%} of the windows",
        number(lag_ms, " ms"),
        f"at most {number(settings.max_pacing_lag_ms, ' ms')}",
        lag_ms is not None and lag_ms <= settings.max_pacing_lag_ms,
        f"In a quarter of the windows the generator itself was late (p95 {number(lag_ms, ' ms')} or more), so the "
        "ratios are not the service's.",
    )
    share = _cpu_share(compare.pairs)
    check(
        "generator's processor share, median",
        "unknown" if share is None else f"{share:.0%}",
        f"at most {settings.max_cpu_share:.0%}",
        share is not None and share <= settings.max_cpu_share,
        f"The generator used {'an unknown part' if share is None else f'{share:.0%}'} of a core in half of the windows "
        "of one side, so it may have been the bottleneck and the ratios its own.",
    )
    for name, side in (("base", compare.base), ("candidate", compare.candidate)):
        windows = [getattr(pair, name) for pair in compare.pairs]
        failed = sum(window.scheduled - window.ok for window in windows)
        check(
            f"failed requests of the {name}",
            _failures(windows),
            "0",
            failed == 0,
            f"{failed} requests of the {name} failed: {_failures(windows)}.",
        )
        if side.items is not None:
            delta = "unknown (a restart)" if side.items.delta is None else f"{side.items.delta:.0f}"
            check(
                f"counted by the {name}'s consumers",
                delta,
                terms.counted(side.answered, compare.plan.workload),
                terms.agrees(side.items.delta, side.answered, compare.plan.workload),
                f"The {name}'s consumers counted {delta} requests and the generator had {side.answered} answers: "
                "something else asked, or a consumer died.",
            )
    precisions = [(side.card or {}).get("precision") for side in (compare.base, compare.candidate)]
    check(
        "precision of both",
        " and ".join(str(precision) for precision in precisions),
        "the same",
        precisions[0] == precisions[1],
        f"The base served {precisions[0]} and the candidate {precisions[1]}, so their speeds do not compare.",
    )
    return checks


def judge_served(
    kind: Kind,
    whose: str,
    card: Mapping[str, Any] | None,
    version: Mapping[str, Any] | None,
    budget: ModelBudget,
    expected_commit: str | None,
) -> list[Check]:
    """Judge the precision and the commit that a service says it serves, where something is expected of them."""
    checks = []
    if budget.precision is not None:
        served = (card or {}).get("precision")
        sentence = (
            f"The {whose}service served {served or 'an unknown precision'}; the budgets hold for {budget.precision}."
        )
        passed = served == budget.precision
        checks.append(Check(kind, f"{whose}precision", str(served or "unknown"), budget.precision, passed, sentence))
    if expected_commit is not None:
        commit, expected = reported_commit(version), expected_commit[:12]
        sentence = f"The {whose}service is of commit {(commit or '')[:12]}, not {expected}."
        if commit is None:
            sentence = f"The {whose}service does not say of which commit it is; {expected} is expected."
        passed = commit == expected_commit
        checks.append(Check(kind, f"{whose}commit", (commit or "unknown")[:12], expected, passed, sentence))
    return checks


def reported_commit(version: Mapping[str, Any] | None) -> str | None:
    """Return the commit that a service says it is of, or None where it says nothing."""
    commit = (version or {}).get("commit")
    return commit if isinstance(commit, str) and commit else None


def _checked_out(side: Side) -> str | None:
    """Return the commit that a side must be of, that of its checkout; None where the service does not say its own."""
    return None if side.commit is None or reported_commit(side.version) is None else side.commit.id


def warnings_on(budget: ModelBudget | None, compare: CompareFile) -> tuple[str, ...]:
    """Say what asks for a second look at a comparison, and is no reason to fail."""
    base, candidate = compare.base, compare.candidate
    _, found, _ = answer_check.judge(budget, compare)
    if base.commit is None or base.commit != candidate.commit or base.commit.dirty is not False:
        return found
    if base.settings != candidate.settings:
        return found
    same = base.commit.id[:12]
    return (
        *found,
        f"Base and candidate are the same commit, {same}: this shows how noisy the comparison is, and no change.",
    )


def find_contradiction(compare: CompareFile) -> str | None:
    """Return what in the file does not agree with itself, or None."""
    for pair in compare.pairs:
        for window in _windows(pair):
            if window.ok > window.scheduled or sum(window.failures.values()) != window.scheduled - window.ok:
                return "a window's failures are not its requests without an answer"
            figures = (window.mean_ms, window.p95_ms, window.throughput_per_s)
            if window.ok == window.scheduled and any(figure is None or figure <= 0 for figure in figures):
                return "a window whose requests all succeeded has no figures"
    seeds = [pair.seed for pair in compare.pairs]
    if len(set(seeds)) != len(seeds):
        return "two pairs have the same seed, so they are not independent"
    if [pair.batch for pair in compare.pairs] != sorted(pair.batch for pair in compare.pairs):
        return "its batches are not one after the other"
    return None


def _decided(settings: GateSettings, decision: regression.Decision, pairs: int) -> list[Check]:
    """Put the decision into checks: one on the noise, and one for each metric."""
    widest = max(decision.last, key=lambda finding: finding.half_width)
    limit = f"within {settings.too_noisy:.0%}"
    noisy = decision.outcome in ("noisy", "incomplete")
    if decision.outcome == "incomplete":
        sentence = "A first batch of pairs flagged a regression, and there is no whole second one to confirm it."
    else:
        sentence = (
            f"Too noisy to tell: after {widest.pairs} pairs the ratio of {widest.metric} is known no better than "
            f"{percent(widest.low)} to {percent(widest.high)}."
        )
    measured = f"{percent(widest.low)} to {percent(widest.high)} ({widest.metric})"
    checks = [Check("comparison", "ratio known", measured, limit, not noisy, sentence if noisy else "")]
    second = {finding.metric: finding for finding in decision.second}
    for first in decision.first:
        finding = second.get(first.metric, first)
        bad = finding in decision.regressed
        worst = regression.relative_margin(first.metric, settings)
        text = (
            f"{percent(finding.change)} (95% interval {percent(finding.low)} to {percent(finding.high)}, "
            f"{finding.pairs} pairs, p = {finding.p:.2g})"
        )
        confirmed = f" Two independent batches say so; the first had {percent(first.change)} (p = {first.p:.2g})."
        sentence = f"Against the base, {first.metric} changed by {text}; the margin is {percent(worst)}.{confirmed}"
        name, required = f"{first.metric} against the base", f"no worse than {percent(worst)}"
        checks.append(Check("regression", name, text, required, not bad, sentence if bad else ""))
    return checks


def _cpu_share(pairs: Sequence[Pair]) -> float | None:
    """Return the generator's processor share in the middle window of the side that kept it busier; None if unknown."""
    sides = [[pair.base.cpu_share for pair in pairs], [pair.candidate.cpu_share for pair in pairs]]
    known = [[share for share in shares if share is not None] for shares in sides]
    return max(map(statistics.median, known)) if all(known) else None


def _failures(windows: list[Window]) -> str:
    found: dict[str, int] = {}
    for window in windows:
        for name, count in window.failures.items():
            found[name] = found.get(name, 0) + count
    return ", ".join(f"{count} x {name}" for name, count in sorted(found.items())) or "0"


def _windows(pair: Pair) -> tuple[Window, Window]:
    return pair.base, pair.candidate


def _differences(compare: CompareFile) -> list[str]:
    """Say in what the two services differ by their own account."""
    found = []
    for name in ("version", "device", "batch", "workers"):
        values = [(side.card or {}).get(name) for side in (compare.base, compare.candidate)]
        if values[0] != values[1]:
            found.append(
                f"The model's card differs in {name}: {_shown(values[0])} in the base, {_shown(values[1])} now."
            )
    commits = [_commit(side) for side in (compare.base, compare.candidate)]
    found.append(f"Compared: {commits[0]} (base) and {commits[1]} (candidate).")
    return found


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())[:100]
    return str(value)[:100]


def _commit(side: Side) -> str:
    if side.commit is None:
        return side.source
    return side.commit.id[:12] + (" with changes" if side.commit.dirty else "")

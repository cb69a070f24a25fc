"""The verdict on one run, from parsed budgets. Pure, and failing closed: what cannot be judged never passes.

The order of the checks: is the measurement valid, are the answers still the base's, is it within its budgets, is it
slower than the base? The first failure decides, though all figures are always shown. Latency counts from the planned
send time, and a failed request is infinitely slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from loadgen.budgets import Budgets, GateSettings, ModelBudget, loosened
from loadgen.results import stats, summary, token_figures
from loadgen.results.comparefile import CompareFile
from loadgen.results.runfile import RunFile

from . import regression_gate, terms, token_budgets
from .verdict import Check, Verdict, number, unusable

_ROUNDING_US = 1
_NOTED_CLOCK_STEP_MS = 500
_REQUESTS_PER_RESENT = 100
"""At most one request in so many may have met a connection that was just being closed; that is chance, and rare."""


def judge(
    budgets: Budgets,
    run: RunFile | str,
    compare: CompareFile | str | None = None,
    base_budgets: Budgets | str | None = None,
    expected_commit: str | None = None,
    payload: terms.Hashes = None,
) -> Verdict:
    """Judge a run against the budgets of the model it measured, and a comparison if there is one.

    Args:
        run, compare: the files; a text is the sentence that says why there is none to be read.
        base_budgets: those of the merge base, or the sentence that says why they cannot be read; what was loosened
            since is warned of.
        expected_commit: the commit that must have been served; None when that is not known.
        payload: hashes of what the budgets name as payload of this model.
    """
    warnings: tuple[str, ...] = ()
    if isinstance(base_budgets, str):
        warnings = (f"Nobody saw whether budgets were loosened: {base_budgets}",)
    elif base_budgets is not None:
        warnings = loosened(base_budgets, budgets)
    if isinstance(run, str):
        return Verdict(None, (unusable(run),), (), warnings)
    model = run.configuration.model
    contradiction = find_contradiction(run)
    if contradiction is not None:
        return Verdict(model, (unusable(f"The result file contradicts itself: {contradiction}."),), (), warnings)
    budget = budgets.models.get(model)
    checks = judge_validity(budgets.gate, run)
    if budget is None:
        known = ", ".join(sorted(budgets.models)) or "none"
        sentence = f"The run measured {model!r}, for which there are no budgets (there are: {known})."
        checks.append(Check("validity", "model", model, known, False, sentence))
    else:
        checks += judge_terms(budget, run, expected_commit, payload)
        checks += [*judge_budget(budget, run), *token_budgets.judge(budget, run)] if run.counts.scheduled else []
    said = notes(run)
    if compare is not None:
        compared, more = regression_gate.judge(budgets.gate, budget, model, compare, expected_commit, payload)
        checks, said = [*checks, *compared], (*said, *more)
        if not isinstance(compare, str):
            warnings = (*warnings, *regression_gate.warnings_on(budget, compare))
    return Verdict(model, tuple(checks), said, warnings)


def judge_terms(budget: ModelBudget, run: RunFile, expected_commit: str | None, payload: terms.Hashes) -> list[Check]:
    """Judge whether what was measured is what the budgets speak of: load, payload, precision, commit."""
    checks: list[Check] = []
    if budget.rate_per_s is not None:
        rate, least = run.configuration.rate_per_s, budget.rate_per_s
        sentence = f"The budgets hold at {number(least, '/s')}, and the run was planned at {number(rate, '/s')}."
        passed = rate is not None and rate >= least
        required = f"at least {number(least, '/s')}"
        checks.append(Check("validity", "rate planned", number(rate, "/s"), required, passed, sentence))
    checks += terms.judge_arrivals(budget, run.configuration)
    checks += terms.judge_workload("validity", "run", run.configuration.workload, budget)
    checks += terms.judge_payload("validity", "run", run.configuration.payloads, payload)
    checks += regression_gate.judge_served(
        "validity", "", run.service.card, run.service.version, budget, expected_commit
    )
    return checks


def judge_validity(settings: GateSettings, run: RunFile) -> list[Check]:
    """Judge whether the measurement can prove anything."""
    counts, validity, configuration = run.counts, run.validity, run.configuration
    checks: list[Check] = []

    def check(name: str, measured: str, required: str, passed: bool, sentence: str) -> None:
        checks.append(Check("validity", name, measured, required, passed, "" if passed else sentence))

    check("complete", "no" if run.partial else "yes", "yes", not run.partial, "The run was broken off.")
    check(
        "scenario",
        f"{configuration.scenario} loop",
        "open loop",
        configuration.scenario == "open",
        "Only an open loop can be judged: a closed one slows down with the service and so hides how slow it is.",
    )
    check(
        "requests measured",
        str(counts.scheduled),
        f"at least {settings.min_requests}",
        counts.scheduled >= settings.min_requests,
        (
            f"Only {counts.scheduled} requests were measured; {settings.min_requests} are needed for a verdict."
            if counts.scheduled
            else "Nothing was measured."
        ),
    )
    failed = counts.scheduled - counts.ok
    check(
        "failed requests",
        failure_text(run),
        "0",
        failed == 0,
        f"{failed} of {counts.scheduled} requests failed: {failure_text(run)}.",
    )
    most_resent = counts.scheduled // _REQUESTS_PER_RESENT
    check(
        "sent again",
        str(counts.resent),
        f"at most {most_resent}",
        counts.resent <= most_resent,
        f"{counts.resent} requests had to be sent again, since the service closed the connections they went over; at "
        "most 1% may.",
    )
    rate, achieved = configuration.rate_per_s, validity.achieved_rate_per_s
    if configuration.scenario == "open":
        least = settings.min_rate_share * (rate or math.inf)
        check(
            "rate sent",
            number(achieved, "/s"),
            f"at least {number(least, '/s')}",
            achieved is not None and achieved >= least,
            f"The rate was not reached: {number(achieved, '/s')} instead of {number(rate, '/s')}.",
        )
    lag_ms = validity.pacing_lag.p99_ms
    check(
        "generator's lag, p99",
        number(lag_ms, " ms"),
        f"at most {number(settings.max_pacing_lag_ms, ' ms')}",
        lag_ms is not None and lag_ms <= settings.max_pacing_lag_ms,
        f"The generator itself was late (p99 {number(lag_ms, ' ms')}), so the figures are not the service's.",
    )
    share = validity.generator_cpu_share
    check(
        "generator's processor share",
        "unknown" if share is None else f"{share:.0%}",
        f"at most {settings.max_cpu_share:.0%}",
        share is not None and share <= settings.max_cpu_share,
        f"The generator used {'an unknown part' if share is None else f'{share:.0%}'} of a core, so it may have been "
        "the bottleneck.",
    )
    card_name = (run.service.card or {}).get("name")
    if card_name is not None:
        check(
            "model served",
            str(card_name),
            configuration.model,
            card_name == configuration.model,
            f"The service served {card_name!r}, not {configuration.model!r}.",
        )
    cut = (("the service", run.service.requests, None), ("the consumers", run.service.items, configuration.workload))
    for name, counter, workload in cut:
        if counter is None:
            continue
        delta = "unknown (a restart)" if counter.delta is None else f"{counter.delta:.0f}"
        check(
            f"counted by {name}",
            delta,
            terms.counted(validity.answered, workload),
            terms.agrees(counter.delta, validity.answered, workload),
            f"{name.capitalize()} counted {delta} requests and the generator had {validity.answered} answers: "
            "something else asked, or something died or was restarted.",
        )
    workers, left = (run.service.card or {}).get("workers"), run.service.workers_after
    if isinstance(workers, int):
        check(
            "workers alive",
            f"{'unknown' if left is None else left} of {workers}",
            f"all {workers}",
            left is not None and left >= workers,
            f"Of {workers} workers {left} were left when the run was over."
            if left is not None
            else f"There were {workers} workers, and when the run was over the service did not say how many are left.",
        )
    return checks


def judge_budget(budget: ModelBudget, run: RunFile) -> list[Check]:
    """Hold the latencies against the budgets; see `stats.allowed_over` for the certified percentile."""
    latencies = summary.latencies_ms(run.requests, run.requests.planned_us)
    checks = []
    if budget.mean_ms is not None:
        mean_ms, limit = stats.mean(latencies), number(budget.mean_ms, " ms")
        sentence = f"The mean latency is {number(mean_ms, ' ms')}; the budget is {limit}."
        passed = mean_ms <= budget.mean_ms
        checks.append(Check("budget", "mean", number(mean_ms, " ms"), f"at most {limit}", passed, sentence))
    if budget.p95_ms is not None:
        count, p95_ms = len(latencies), stats.percentile(sorted(latencies), 0.95)
        over = sum(value > budget.p95_ms for value in latencies)
        allowed, limit = stats.allowed_over(count), number(budget.p95_ms, " ms")
        sentence = f"The p95 latency is {number(p95_ms, ' ms')}; the budget is {limit}."
        passed = p95_ms <= budget.p95_ms
        checks.append(Check("budget", "p95", number(p95_ms, " ms"), f"at most {limit}", passed, sentence))
        allows = "no number proves it" if allowed is None else f"at most {allowed}"
        sentence = (
            f"{over} of {count} requests took longer than {limit}; to say with 99% confidence that the p95 is within "
            f"it, {allows} may."
        )
        passed = allowed is not None and over <= allowed
        checks.append(Check("budget", f"requests over {limit}", f"{over} of {count}", allows, passed, sentence))
    return checks


def find_contradiction(run: RunFile) -> str | None:
    """Return which figure of the file does not match its own list of requests, or None."""
    requests = run.requests
    columns: list[Sequence[object]] = [
        requests.planned_us, requests.sent_us, requests.done_us, requests.outcome, requests.payload
    ]  # fmt: skip
    if requests.tokens is not None:
        columns += msgspec.structs.astuple(requests.tokens)
    if len({len(column) for column in columns}) != 1:
        return "its columns differ in length"
    if any(index >= len(requests.outcomes) for index in requests.outcome):
        return "a request has an outcome that is not listed"
    end_us = run.configuration.duration_s * 1e6 + _ROUNDING_US
    if any(not 0 <= planned <= end_us for planned in requests.planned_us):
        return "a request was planned outside the measured time"
    sent_and_done = zip(requests.planned_us, requests.sent_us, requests.done_us, requests.outcome, strict=True)
    for planned, sent, done, outcome in sent_and_done:
        at = planned if sent is None else sent
        if at < planned - _ROUNDING_US or done < at - _ROUNDING_US:
            return "a request was sent before it was due or done before it was sent"
        if sent is None and requests.outcomes[outcome].kind == "ok":
            return "a request that was never sent counts as answered"
    if requests.tokens is not None:
        parts = zip(requests.sent_us, requests.tokens.first_us, requests.tokens.last_us, requests.done_us, strict=True)
        for sent, first, last, done in parts:
            if first is not None and (
                sent is None or last is None or not sent - _ROUNDING_US <= first <= last <= done + _ROUNDING_US
            ):
                return "a token came before its request was sent or after it was done"
    if run.counts != summary.counts(requests, run.counts.resent):
        return "its counts are not those of its requests"
    if run.latency != summary.latency(requests):
        return "its latencies are not those of its requests"
    if run.validity.achieved_rate_per_s != summary.achieved_rate_per_s(requests, run.configuration.duration_s):
        return "its rate is not that of its requests"
    asked = run.configuration
    is_open = asked.rate_per_s is not None
    if run.tokens != token_figures.figures(requests, asked.workload, asked.duration_s, is_open):
        return "its figures of tokens are not those of its requests"
    return None


def notes(run: RunFile) -> tuple[str, ...]:
    """Say what was seen and not judged."""
    found = []
    if run.warmup.failed:
        found.append(f"{run.warmup.failed} of {run.warmup.scheduled} requests of the warm-up failed (not judged).")
    if run.counts.resent:
        found.append(f"{run.counts.resent} requests were sent again after the service had closed a kept connection.")
    step_ms = run.validity.clock_step_ms
    if step_ms is not None and abs(step_ms) >= _NOTED_CLOCK_STEP_MS:
        found.append(
            f"The machine's clock was set by {number(step_ms, ' ms')} during the run; no figure depends on it."
        )
    card = run.service.card or {}
    unknown = (
        (run.service.requests is None, "The service shows no request counter, so its count"),
        (run.service.items is None, "No consumer's counter was read (--metrics names their addresses), so their count"),
    )
    found += [f"{what} was not compared with the generator's." for is_unknown, what in unknown if is_unknown]
    if card.get("name") is None:
        found.append("The service shows no card with the model's name, so what it served was not compared with it.")
    if not isinstance(card.get("workers"), int):
        found.append("The service does not say how many workers live, so it was not looked whether all are left.")
    warnings = (run.service.card or {}).get("warnings")
    if isinstance(warnings, list):
        found += [f"The model's card says: {warning}" for warning in warnings if isinstance(warning, str)]
    return tuple(found)


def failure_text(run: RunFile) -> str:
    """Name each kind of failure with its count, or `0`."""
    counts = run.counts
    parts = [f"{item.count} x status {item.status}{f' {item.code}' if item.code else ''}" for item in counts.http]
    parts += [f"{one.count} x aborted{f' {one.code}' if one.code else ''}" for one in counts.aborted]
    for name in ("timeout", "connection", "malformed", "dropped", "interrupted"):
        number_of: int = getattr(counts, name)
        if number_of:
            parts.append(f"{number_of} x {name}")
    return ", ".join(parts) or "0"

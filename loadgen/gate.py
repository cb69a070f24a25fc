"""The verdict on one run, from parsed budgets. Pure, and failing closed: what cannot be judged is never passed.

First the measurement itself is judged. Only a valid one is held against the budgets, though the figures are always
shown. Latency counts from the planned send time, and a failed request is infinitely slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from . import stats, summary
from .budgets import Budgets, GateSettings, ModelBudget
from .errors import EXIT_INVALID, EXIT_OK, EXIT_OVER_BUDGET
from .runfile import RunFile

_ROUNDING_US = 1


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was judged. `sentence` says what is wrong when `passed` is False."""

    kind: Literal["validity", "budget"]
    name: str
    measured: str
    required: str
    passed: bool
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one run. `notes` are worth knowing and were not judged."""

    model: str | None
    status: Literal["pass", "over budget", "invalid"]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return {"pass": EXIT_OK, "over budget": EXIT_OVER_BUDGET, "invalid": EXIT_INVALID}[self.status]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass; for an invalid run only what makes it so, since its figures prove nothing."""
        kinds = ("validity",) if self.status == "invalid" else ("validity", "budget")
        return tuple(check.sentence for check in self.checks if not check.passed and check.kind in kinds)


def judge(budgets: Budgets, run: RunFile) -> Verdict:
    """Judge a run against the budgets of the model it measured."""
    contradiction = find_contradiction(run)
    if contradiction is not None:
        return unusable(f"The result file contradicts itself: {contradiction}.", run.configuration.model)
    validity = judge_validity(budgets.gate, run)
    budget = budgets.models.get(run.configuration.model)
    if budget is None:
        known = ", ".join(sorted(budgets.models)) or "none"
        sentence = f"The run measured {run.configuration.model!r}, for which there are no budgets (there are: {known})."
        validity.append(Check("validity", "model", run.configuration.model, known, False, sentence))
    within = judge_budget(budget, run) if budget and run.counts.scheduled else []
    if not all(check.passed for check in validity):
        status: Literal["pass", "over budget", "invalid"] = "invalid"
    else:
        status = "pass" if all(check.passed for check in within) else "over budget"
    return Verdict(run.configuration.model, status, (*validity, *within), notes(run))


def unusable(sentence: str, model: str | None = None) -> Verdict:
    """Return the verdict on a result that cannot even be looked at."""
    return Verdict(model, "invalid", (Check("validity", "result file", "unusable", "readable", False, sentence),))


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
    card_name = (run.service.card or {}).get("name")
    if card_name is not None:
        check(
            "model served",
            str(card_name),
            configuration.model,
            card_name == configuration.model,
            f"The service served {card_name!r}, not {configuration.model!r}.",
        )
    counter = run.service.requests
    if counter is not None:
        delta = "unknown (the service was restarted)" if counter.delta is None else f"{counter.delta:.0f}"
        check(
            "counted by the service",
            delta,
            str(validity.answered),
            counter.delta == validity.answered,
            f"The service counted {delta} requests and the generator had {validity.answered} answers: "
            "something else asked it, or it was restarted.",
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
    """Return what in the file does not agree with its own list of requests, or None."""
    requests = run.requests
    columns = (requests.planned_us, requests.sent_us, requests.done_us, requests.outcome, requests.payload)
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
    if run.counts != summary.counts(requests, run.counts.resent):
        return "its counts are not those of its requests"
    if run.latency != summary.latency(requests):
        return "its latencies are not those of its requests"
    if run.validity.achieved_rate_per_s != summary.achieved_rate_per_s(requests, run.configuration.duration_s):
        return "its rate is not that of its requests"
    return None


def notes(run: RunFile) -> tuple[str, ...]:
    """Say what was seen and not judged."""
    found = []
    if run.warmup.failed:
        found.append(f"{run.warmup.failed} of {run.warmup.scheduled} requests of the warm-up failed (not judged).")
    if run.counts.resent:
        found.append(f"{run.counts.resent} requests were sent again after the service had closed a kept connection.")
    if run.service.requests is None:
        found.append("The service shows no request counter, so its count was not compared with the generator's.")
    warnings = (run.service.card or {}).get("warnings")
    if isinstance(warnings, list):
        found += [f"The model's card says: {warning}" for warning in warnings if isinstance(warning, str)]
    return tuple(found)


def failure_text(run: RunFile) -> str:
    """Name each kind of failure with its count, or `0`."""
    counts = run.counts
    parts = [f"{item.count} x status {item.status}{f' {item.code}' if item.code else ''}" for item in counts.http]
    for name in ("timeout", "connection", "malformed", "dropped", "interrupted"):
        number_of: int = getattr(counts, name)
        if number_of:
            parts.append(f"{number_of} x {name}")
    return ", ".join(parts) or "0"


def number(value: float | None, unit: str) -> str:
    """Write a figure for people: `12.3 ms`, `unknown`, or `infinite`."""
    if value is None:
        return "unknown"
    if math.isinf(value):
        return "infinite"
    return f"{value:,.0f}{unit}" if abs(value) >= 1000 else f"{value:.4g}{unit}"

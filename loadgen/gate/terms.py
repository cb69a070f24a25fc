"""Was it the load that the budgets hold for: the payload, the arrivals, the windows of a comparison? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadgen.budgets import ModelBudget
from loadgen.results.comparefile import Plan
from loadgen.results.runfile import Configuration, PayloadInfo
from loadgen.workloads.spec import Workload

from .verdict import Check, Kind, number

Hashes = tuple[str, ...] | str | None
"""The SHA-256 of each file that the budgets name; a text says why they cannot be read; None: the budgets name none."""


def judge_payload(kind: Kind, what: str, sent: Sequence[PayloadInfo], named: Hashes) -> list[Check]:
    """Judge whether the bytes that were sent are those of the files that the budgets name.

    Args:
        what: was sent, `run` or `comparison`.
    """
    if named is None or not sent:
        return []
    name = f"payload of the {what}"
    if isinstance(named, str):
        return [Check(kind, name, "unknown", "as in the budgets", False, named)]
    strange = ", ".join(payload.name for payload in sent if payload.sha256 not in named)
    sentence = f"The {what} sent {strange[:100]}, which is not what the budgets name as payload."
    if not strange:
        sentence = f"The {what} did not send all that the budgets name as payload."
    passed = Counter(payload.sha256 for payload in sent) == Counter(named)
    measured = "as in the budgets" if passed else "another"
    return [Check(kind, name, measured, "as in the budgets", passed, sentence)]


def judge_workload(kind: Kind, what: str, sent: Workload | None, budget: ModelBudget) -> list[Check]:
    """Judge whether the texts were made as the budgets want them, and what made a request good.

    Args:
        what: was sent, `run` or `comparison`.
    """
    if budget.workload is None and sent is None:
        return []
    name, wanted = f"workload of the {what}", budget.workload
    if sent is None or wanted is None:
        of = "none" if sent is None else sent.kind
        sentence = f"The {what} sent {'no workload' if sent is None else f'the workload {of}'}, unlike the budgets."
        return [Check(kind, name, of, "none" if wanted is None else wanted.kind, False, sentence)]
    changed = [field for field in sent.__struct_fields__ if getattr(sent, field) != getattr(wanted, field)]
    sentence = f"The workload of the {what} is not that of the budgets: it differs in {', '.join(changed)}."
    measured = f"{sent.kind}, another {changed[0]}" if changed else sent.kind
    return [Check(kind, name, measured, f"{wanted.kind} as in the budgets", not changed, sentence)]


def agrees(counted: float | None, answered: int, workload: Workload | None) -> bool:
    """Whether a service's count fits the answers had: equal, or more where a request is cut into pieces."""
    if counted is None:
        return False
    return counted >= answered if _is_cut(workload) else counted == answered


def counted(answered: int, workload: Workload | None) -> str:
    """Say what a service's count must be."""
    return f"at least {answered}" if _is_cut(workload) else str(answered)


def _is_cut(workload: Workload | None) -> bool:
    """Whether a front end may put one request into the queue as several: a list of texts over OpenAI's API."""
    return workload is not None and workload.api == "openai" and (workload.most_texts or 1) > 1


def judge_arrivals(budget: ModelBudget, configuration: Configuration) -> list[Check]:
    """Judge whether requests came as irregularly as the budgets' rate means them to; evenly spaced ones are kinder."""
    arrivals, burstiness = configuration.arrivals, configuration.burstiness
    if budget.rate_per_s is None or arrivals is None:
        return []
    passed = arrivals == "poisson" or (arrivals == "gamma" and burstiness is not None and burstiness >= 1)
    measured = arrivals if burstiness is None else f"{arrivals}, burstiness {burstiness:g}"
    sentence = f"The budgets hold for Poisson arrivals or more irregular ones, and the run's were {measured}."
    return [Check("validity", "arrivals", measured, "poisson or burstier", passed, sentence)]


def judge_plan(budget: ModelBudget, plan: Plan) -> list[Check]:
    """Judge whether the windows of a comparison are those that the budgets plan."""
    rate_per_s = budget.window_rate_per_s or budget.rate_per_s or plan.rate_per_s
    required = (rate_per_s, "poisson", budget.window_s, budget.offline_requests, budget.concurrency)
    measured = (plan.rate_per_s, plan.arrivals, plan.window_s, plan.offline_requests, plan.concurrency)
    shown, wanted = _shown(*measured), _shown(*required)
    sentence = f"The windows of the comparison were of {shown}; the budgets plan {wanted}."
    return [Check("comparison", "each window", shown, wanted, measured == required, sentence)]


def _shown(rate_per_s: float, arrivals: str, window_s: float, offline_requests: int, concurrency: int) -> str:
    planned = f"{number(window_s, ' s')} at {number(rate_per_s, '/s')} {arrivals}"
    return f"{planned}, then {offline_requests}, {concurrency} at a time"

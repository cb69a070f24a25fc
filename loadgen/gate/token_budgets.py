"""Budgets of a chat: time to first token, time between tokens, goodput. Pure.

A percentile and a share are claimed with 99% confidence, as the p95 of latency is: see `stats.allowed_over`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadgen.budgets import ModelBudget, Percentiles
from loadgen.results import stats, token_figures
from loadgen.results.runfile import RunFile

from .verdict import Check, number


def judge(budget: ModelBudget, run: RunFile) -> list[Check]:
    """Hold a run's chats against the budgets; a budget without figures to hold against it fails."""
    wanted = [name for name in ("ttft_ms", "itl_ms", "goodput") if getattr(budget, name) is not None]
    if not wanted:
        return []
    workload = run.configuration.workload
    objectives = None if workload is None else token_figures.objectives_of(workload)
    if run.requests.tokens is None or objectives is None:
        sentence = f"The run has no figures of a chat, and the budgets have {', '.join(wanted)}."
        return [Check("budget", name, "unknown", "known", False, sentence) for name in wanted]
    ttfts = token_figures.ttfts_ms(run.requests, run.requests.planned_us)
    itls = token_figures.itls_ms(run.requests)
    checks = _judge_percentiles("TTFT", "time to first token", budget.ttft_ms, ttfts)
    known = [value for value in itls if value is not None]
    checks += _judge_percentiles("ITL", "mean time between tokens", budget.itl_ms, known)
    if budget.goodput is not None:
        checks += _judge_goodput(budget.goodput, token_figures.goods(ttfts, itls, objectives), objectives)
    return checks


def _judge_percentiles(name: str, what: str, budget: Percentiles | None, values: Sequence[float]) -> list[Check]:
    checks = []
    for share, limit in budget.limits if budget is not None else ():
        title, text = f"{name} p{share * 100:.0f}", number(limit, " ms")
        value = stats.percentile(sorted(values), share) if values else math.inf
        sentence = f"The p{share * 100:.0f} of the {what} ({name}) is {number(value, ' ms')}; the budget is {text}."
        checks.append(Check("budget", title, number(value, " ms"), f"at most {text}", value <= limit, sentence))
        over, allowed = sum(value > limit for value in values), stats.allowed_over(len(values), share)
        claim = f"had a {what} ({name}) above {text}"
        checks.append(_claim(f"{title}: requests over {text}", over, len(values), allowed, claim, share))
    return checks


def _judge_goodput(least: float, goods: Sequence[bool], objectives_ms: tuple[float, float]) -> list[Check]:
    good, count = sum(goods), len(goods)
    found = good / count if count else 0.0
    ttft, itl = (number(objective, " ms") for objective in objectives_ms)
    sentence = (
        f"The goodput is {found:.1%} of the requests (TTFT within {ttft}, ITL within {itl}); the budget is {least:.1%}."
    )
    check = Check("budget", "goodput", f"{found:.1%}", f"at least {least:.1%}", found >= least, sentence)
    missed = f"missed an objective (TTFT within {ttft}, ITL within {itl})"
    claim = _claim(
        "goodput: requests that missed", count - good, count, stats.allowed_over(count, least), missed, least
    )
    return [check, claim]


def _claim(name: str, over: int, count: int, allowed: int | None, what: str, share: float) -> Check:
    allows = f"needs {stats.smallest_count(share)} requests or more" if allowed is None else f"at most {allowed}"
    sentence = f"{over} of {count} requests {what}; to say with 99% confidence that {share:.1%} do not, {allows} may."
    if allowed is None:
        sentence = (
            f"{count} requests are too few to say with 99% confidence that {share:.1%} of them are good; it {allows}."
        )
    return Check("budget", name, f"{over} of {count}", allows, allowed is not None and over <= allowed, sentence)

"""Figures of a workload: tokens, time to first token, time between tokens, goodput. Pure.

As everywhere, a request that failed is infinitely slow, and waiting to be sent counts: times begin when it was due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from loadgen.workloads.spec import Workload

from . import runfile
from .ledger import Ledger, Told
from .summarising import summarise

Micros = Callable[[float], "int | None"]


def columns(ledger: Ledger, rows: Sequence[int], micros: Micros) -> runfile.TokenColumns:
    """Return what the answers to the requests `rows` said.

    Args:
        micros: makes microseconds from the start of the measured time of a time of the ledger; None of NaN.
    """
    nothing = Told(texts=0)
    told = [ledger.told.get(index, nothing) for index in rows]
    return runfile.TokenColumns(
        texts=[one.texts for one in told],
        prompt_tokens=[one.prompt_tokens for one in told],
        output_tokens=[one.output_tokens for one in told],
        first_us=[micros(one.first_s) for one in told],
        last_us=[micros(one.last_s) for one in told],
        worst_gap_us=[None if math.isnan(one.first_s) else round(one.worst_gap_s * 1e6) for one in told],
    )


def is_ok(requests: runfile.Requests) -> list[bool]:
    """Return of each request whether it was answered."""
    kinds = [name.kind for name in requests.outcomes]
    return [kinds[outcome] == "ok" for outcome in requests.outcome]


def ttfts_ms(requests: runfile.Requests, since: Sequence[int | None]) -> list[float]:
    """Return each request's time to its first token from the times in `since`; infinite for one that failed."""
    assert requests.tokens is not None
    rows = zip(requests.tokens.first_us, since, is_ok(requests), strict=True)
    return [(first - at) / 1000 if ok and first is not None and at is not None else math.inf for first, at, ok in rows]


def itls_ms(requests: runfile.Requests) -> list[float | None]:
    """Return each request's mean time between tokens; infinite for one that failed, None for one of a single token.

    Where the service does not say how many tokens there were, an answer has none that could be judged: infinite.
    """
    tokens = requests.tokens
    assert tokens is not None
    found: list[float | None] = []
    for first, last, count, ok in zip(
        tokens.first_us, tokens.last_us, tokens.output_tokens, is_ok(requests), strict=True
    ):
        if not ok or first is None or last is None or count is None:
            found.append(math.inf)
        else:
            found.append((last - first) / 1000 / (count - 1) if count > 1 else None)
    return found


def worst_gaps_ms(requests: runfile.Requests) -> list[float]:
    """Return each request's longest time between two parts of its answer; infinite for one that failed."""
    assert requests.tokens is not None
    rows = zip(requests.tokens.worst_gap_us, is_ok(requests), strict=True)
    return [gap / 1000 if ok and gap is not None else math.inf for gap, ok in rows]


def goods(ttfts: Sequence[float], itls: Sequence[float | None], objectives_ms: tuple[float, float]) -> list[bool]:
    """Return of each request whether it met both objectives, of TTFT and of ITL; a single token has no ITL to miss."""
    most_ttft, most_itl = objectives_ms
    return [ttft <= most_ttft and (itl is None or itl <= most_itl) for ttft, itl in zip(ttfts, itls, strict=True)]


def objectives_of(workload: Workload) -> tuple[float, float] | None:
    """Return the objectives for TTFT and ITL in milliseconds; None where there are none."""
    if workload.ttft_objective_ms is None or workload.itl_objective_ms is None:
        return None
    return workload.ttft_objective_ms, workload.itl_objective_ms


def figures(
    requests: runfile.Requests, workload: Workload | None, duration_s: float, is_open: bool
) -> runfile.TokenFigures | None:
    """Return the figures of a workload's requests; None without a workload.

    Args:
        duration_s: of the measured time. A closed loop takes as long as it takes.
    """
    tokens = requests.tokens
    if workload is None or tokens is None:
        return None
    ok = is_ok(requests)
    last_s = max((at for at, good in zip(requests.done_us, ok, strict=True) if good), default=0) / 1e6
    span_s = max(duration_s, last_s) if is_open else last_s

    def total(counts: Sequence[int | None]) -> int | None:
        found = [count for count, good in zip(counts, ok, strict=True) if good]
        known = [count for count in found if count is not None]
        return sum(known) if len(known) == len(found) else None

    def rate(count: int | None) -> float | None:
        return None if count is None or span_s <= 0 else round(count / span_s, 6)

    texts, prompt, output = total(tokens.texts) or 0, total(tokens.prompt_tokens), total(tokens.output_tokens)
    objectives = objectives_of(workload)
    if objectives is None:
        return runfile.TokenFigures(texts, rate(texts), prompt, rate(prompt), None, None, *[None] * 5)
    ttfts, itls = ttfts_ms(requests, requests.planned_us), itls_ms(requests)
    good = sum(goods(ttfts, itls, objectives))
    # Of an open loop, what was due in the measured time: when it ended is the objectives' business.
    good_rate = round(good / duration_s, 6) if is_open and duration_s > 0 else rate(good)
    return runfile.TokenFigures(
        texts=texts,
        texts_per_s=rate(texts),
        prompt_tokens=prompt,
        prompt_tokens_per_s=rate(prompt),
        output_tokens=output,
        output_tokens_per_s=rate(output),
        ttft=summarise(ttfts),
        ttft_from_sent=summarise(ttfts_ms(requests, requests.sent_us)),
        itl=summarise(value for value in itls if value is not None),
        worst_gap=summarise(worst_gaps_ms(requests)),
        goodput=runfile.Goodput(*objectives, good, round(good / len(ttfts), 6) if ttfts else None, good_rate),
    )

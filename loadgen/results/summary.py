"""From what was recorded to the figures of the result file. Pure.

The columns come first and every figure is computed from them, so the gate can compute each one again from the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from . import runfile, token_figures
from .ledger import INTERRUPTED, OK, OPEN, Ledger
from .summarising import summarise


def columns(ledger: Ledger, start_s: float) -> runfile.Requests:
    """Return the measured requests, in microseconds from `start_s`."""

    def micros(at_s: float) -> int | None:
        return None if math.isnan(at_s) else round((at_s - start_s) * 1e6)

    rows = [index for index in range(len(ledger)) if not ledger.warm[index]]
    done = [micros(ledger.done_s[index]) for index in rows]
    end = max((at for at in done if at is not None), default=0)
    return runfile.Requests(
        outcomes=[runfile.OutcomeName(name.kind, name.status, name.code) for name in ledger.outcomes],
        planned_us=[round((ledger.planned_s[index] - start_s) * 1e6) for index in rows],
        sent_us=[micros(ledger.sent_s[index]) for index in rows],
        # A request that is still open when the run breaks off counts as interrupted.
        done_us=[end if at is None else at for at in done],
        outcome=[INTERRUPTED if ledger.outcome[index] == OPEN else ledger.outcome[index] for index in rows],
        payload=[ledger.payload[index] for index in rows],
        tokens=token_figures.columns(ledger, rows, micros) if ledger.reads_texts else None,
    )


def counts(requests: runfile.Requests, resent: int) -> runfile.Counts:
    """Count the outcomes."""
    kinds: Counter[str] = Counter()
    http: Counter[tuple[int, str | None]] = Counter()
    aborted: Counter[str | None] = Counter()
    for index, number in Counter(requests.outcome).items():
        name = requests.outcomes[index]
        kinds[name.kind] += number
        if name.kind == "http":
            http[name.status or 0, name.code] += number
        elif name.kind == "aborted":
            aborted[name.code] += number
    return runfile.Counts(
        scheduled=len(requests.planned_us),
        sent=sum(at is not None for at in requests.sent_us),
        ok=kinds["ok"],
        http=[
            runfile.HttpFailures(status, code, number)
            for (status, code), number in sorted(http.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        ],
        timeout=kinds["timeout"],
        connection=kinds["connection"],
        malformed=kinds["malformed"],
        dropped=kinds["dropped"],
        interrupted=kinds["interrupted"],
        resent=resent,
        aborted=[
            runfile.Aborted(code, number) for code, number in sorted(aborted.items(), key=lambda item: item[0] or "")
        ],
    )


def warmup_counts(ledger: Ledger) -> runfile.WarmupCounts:
    """Count the warm-up's outcomes."""
    outcomes = [ledger.outcome[index] for index in range(len(ledger)) if ledger.warm[index]]
    ok = sum(outcome == OK for outcome in outcomes)
    return runfile.WarmupCounts(scheduled=len(outcomes), ok=ok, failed=len(outcomes) - ok)


def latencies_ms(requests: runfile.Requests, since: Sequence[int | None]) -> list[float]:
    """Return each request's latency from the times in `since`; infinite for one that failed."""
    kinds = [name.kind for name in requests.outcomes]
    return [
        (done - at) / 1000 if kinds[outcome] == "ok" and at is not None else math.inf
        for done, at, outcome in zip(requests.done_us, since, requests.outcome, strict=True)
    ]


def latency(requests: runfile.Requests) -> runfile.Latency:
    """Summarise the latencies, in the three ways the file has them."""
    from_planned = latencies_ms(requests, requests.planned_us)
    return runfile.Latency(
        from_planned=summarise(from_planned),
        from_sent=summarise(latencies_ms(requests, requests.sent_us)),
        answered_from_planned=summarise(value for value in from_planned if math.isfinite(value)),
    )


def send_lag(requests: runfile.Requests) -> runfile.Summary:
    """Summarise how late requests were written, of those that were."""
    pairs = zip(requests.planned_us, requests.sent_us, strict=True)
    return summarise((sent - planned) / 1000 for planned, sent in pairs if sent is not None)


def pacing_lag(ledger: Ledger) -> runfile.Summary:
    """Summarise how late the generator turned to its requests."""
    lags = zip(ledger.planned_s, ledger.picked_s, ledger.warm, strict=True)
    return summarise((picked_s - planned_s) * 1000 for planned_s, picked_s, warm in lags if not warm)


def windows(requests: runfile.Requests) -> list[runfile.Window]:
    """Summarise each second of the measured time by the requests that were due in it."""
    by_second: dict[int, list[float]] = {}
    for planned_us, value in zip(requests.planned_us, latencies_ms(requests, requests.planned_us), strict=True):
        by_second.setdefault(max(planned_us, 0) // 1_000_000, []).append(value)
    last = max(by_second, default=-1)
    found = []
    for second in range(last + 1):
        figures = summarise(by_second.get(second, []))
        found.append(
            runfile.Window(
                start_s=float(second),
                scheduled=figures.count,
                ok=figures.count - figures.failed,
                failed=figures.failed,
                mean_ms=figures.mean_ms,
                p50_ms=figures.p50_ms,
                p95_ms=figures.p95_ms,
                max_ms=figures.max_ms,
            )
        )
    return found


def achieved_rate_per_s(requests: runfile.Requests, duration_s: float) -> float | None:
    """Return the requests written per second, over the measured time or the time their sending took if longer."""
    sent = [at for at in requests.sent_us if at is not None]
    if not sent or duration_s <= 0:
        return None
    return len(sent) / max(duration_s, max(sent) / 1e6)

"""Makes results of runs for tests, through the same functions that make real ones."""

from __future__ import annotations

from typing import Any

import msgspec

from loadgen.results import runfile, summary
from loadgen.results.ledger import OK, Ledger

START_S = 1000.0
HASH = "00"


def make_ledger(latencies_ms: list[float], outcome: int = OK, failures: int = 0, rate_per_s: float = 50.0) -> Ledger:
    """Return a ledger of evenly planned requests; the first `failures` of them get `outcome` instead of OK."""
    ledger = Ledger()
    for number, latency_ms in enumerate(latencies_ms):
        planned_s = START_S + number / rate_per_s
        index = ledger.open(planned_s, planned_s, 0, False)
        ledger.sent_s[index] = planned_s
        ledger.close(index, outcome if number < failures else OK, planned_s + latency_ms / 1000)
    return ledger


def make_run(ledger: Ledger, rate_per_s: float = 50.0, **changes: Any) -> runfile.RunFile:
    """Return the result of a run at `rate_per_s` with these requests, model `imagenet`, nothing else remarkable."""
    requests = summary.columns(ledger, START_S)
    duration_s = max(len(requests.planned_us), 1) / rate_per_s
    run = runfile.RunFile(
        format=runfile.FORMAT,
        version=runfile.VERSION,
        started_at="2026-11-23T10:00:00.000+00:00",
        partial=False,
        configuration=runfile.Configuration(
            url="http://127.0.0.1:8000",
            model="imagenet",
            scenario="open",
            arrivals="poisson",
            burstiness=None,
            rate_per_s=rate_per_s,
            rate_end_per_s=None,
            concurrency=None,
            requests=None,
            duration_s=duration_s,
            warmup_s=0.0,
            seed=1,
            timeout_ms=10000.0,
            max_in_flight=512,
            connections=512,
            payloads=[runfile.PayloadInfo("cat.jpg", "image/jpeg", 100, HASH)],
        ),
        machine=runfile.Machine("Linux", None, 2, None, "3.11", None),
        commit=None,
        service=runfile.Service(None, {"name": "imagenet"}, None, None, None, None),
        warmup=summary.warmup_counts(ledger),
        counts=summary.counts(requests, ledger.resent),
        latency=summary.latency(requests),
        windows=summary.windows(requests),
        validity=runfile.Validity(
            planned_rate_per_s=len(requests.planned_us) / duration_s,
            achieved_rate_per_s=summary.achieved_rate_per_s(requests, duration_s),
            generator_cpu_share=0.1,
            parsed_replies=len(ledger),
            answered=len(ledger),
            most_in_flight=1,
            clock_step_ms=0.0,
            pacing_lag=summary.pacing_lag(ledger),
            send_lag=summary.send_lag(requests),
        ),
        requests=requests,
    )
    return msgspec.structs.replace(run, **changes)


def good_run(count: int = 1000, **changes: Any) -> runfile.RunFile:
    """Return a run of `count` requests that all took 100 ms."""
    return make_run(make_ledger([100.0] * count), **changes)

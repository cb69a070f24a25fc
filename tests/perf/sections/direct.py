"""The null model without HTTP: both tiers of docs/protocol.md."""

from __future__ import annotations

import os

from tests.perf.context import Bench, Found
from tests.perf.load import produce, told
from tests.perf.report.figures import Figure
from tests.perf.stack import Stack

MAX_BATCH = 512
IN_FLIGHT = 2000


def measure(bench: Bench) -> Found:
    """Measure the fast tier and the simple tier in turns; the consumer may take large batches."""
    settings = {
        **bench.settings,
        "HEADRACE_APPENDONLY": "no",
        "HEADRACE_MAX_BATCH": str(MAX_BATCH),
        # One works while another waits for Redis: 71,000 items/s instead of 52,000 on two cores.
        "HEADRACE_CONSUMERS": str(os.cpu_count() or 1),
    }
    found = Found(settings=settings)
    rates: dict[str, list[float]] = {"fast": [], "simple": []}
    failed = 0
    with Stack(("echo",), settings) as stack:
        count = bench.either(5, 1)
        for number in bench.rounds(count, "direct producer", 60.0):
            for tier, values in rates.items():
                window = produce(
                    stack, bench.echo(), bench.either(4.0, 1.0), tier=tier, in_flight=IN_FLIGHT, echoes=True
                )
                failed += window.failed
                values.append(window.rate_per_s)
                bench.say(f"round {number} of {count}: {tier} tier: {told(window)}")
    if failed:
        bench.notes.append(f"{failed} requests of the direct producer failed.")
    for tier, limit in (("fast", 75_000), ("simple", 25_000)):
        found.figures.append(
            Figure(
                what=f"echo, direct producer, {tier} tier: items with verified, stored replies",
                unit="per_s",
                values=rates[tier],
                command=f"""`python -m tests.perf.programs.direct '{{"tier": "{tier}", …}}'`""",
                higher_is_better=True,
                limit=limit,
            )
        )
    return found

"""Requests that are answered later: how fast they are taken in, beside requests that are answered at once."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import replace
from typing import Final

from tests.perf.context import Bench, Found
from tests.perf.load import told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import BenchError, Stack
from tests.perf.windows import Window

CONNECTIONS: Final = 32
LIMIT: Final = 0.8
DRAIN_S: Final = 60.0
NAMES: Final = ("answered at once", "answered later (202)")
SETTINGS: Final = {"HEADRACE_LANE_LIMIT": "1000000", "HEADRACE_KEEP_MS": "20000"}
"""A window takes in more than a lane may hold as shipped, and its results are to be gone soon."""


def measure(bench: Bench) -> Found:
    """Measure both in turns on one stack; each window begins with an empty lane."""
    settings = {**bench.settings, **SETTINGS, "HEADRACE_APPENDONLY": "everysec"}
    payload = bench.echo()
    payloads = dict(zip(NAMES, (payload, replace(payload, headers=("Prefer:respond-async",))), strict=True))
    windows: dict[str, list[Window]] = {name: [] for name in NAMES}
    with Stack(("echo",), settings) as stack:
        bench.generator.closed(stack.url, payload, CONNECTIONS, 1.0)
        count, pids = bench.either(5, 1), {"front end": stack.pids["front end"]}
        for number in bench.rounds(count, "later", 60.0):
            for name, sent in payloads.items():
                window = bench.generator.closed(stack.url, sent, CONNECTIONS, bench.either(3.0, 1.0), pids)
                if window.failed:
                    raise BenchError(f"{window.failed} requests that were {name} failed.")
                windows[name].append(window)
                bench.say(f"round {number} of {count}: {name}: {told(window)}")
                _drain(stack.url)
    figures = []
    for name, sent in payloads.items():
        rates, command = [window.rate_per_s for window in windows[name]], bench.generator.command(sent, CONNECTIONS)
        what = f"echo, {name}, {CONNECTIONS} connections"
        figures.append(Figure(what=what, unit="per_s", values=rates, command=command, higher_is_better=True))
    at_once, later = ([window.rate_per_s for window in windows[name]] for name in NAMES)
    figures.append(
        Figure(what="… later over at once", unit="ratio", values=ratios(later, at_once), command="both, in turns",
               limit=LIMIT, higher_is_better=True)
    )  # fmt: skip
    for name in NAMES:
        used_us = [window.cpu_us["front end"] for window in windows[name]]
        what = f"processor time of the front end per request, {name}"
        figures.append(Figure(what=what, unit="us", values=used_us, command="the same"))
    return Found(figures=figures, settings=settings)


def _drain(url: str) -> None:
    """Wait until nothing waits any more."""
    end_s = time.monotonic() + DRAIN_S
    while time.monotonic() < end_s:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
            if not json.loads(answer.read())["models"][0]["queued"]:
                return
        time.sleep(0.2)
    raise BenchError(f"The lane was not empty after {DRAIN_S:g} s.")

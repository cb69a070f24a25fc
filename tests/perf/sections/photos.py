"""The default model on JPEG photographs, end to end, against the same model alone; both decode."""

from __future__ import annotations

from contextlib import ExitStack

from tests.perf.context import PHOTOS, Bench, Found
from tests.perf.load import told
from tests.perf.programs.ceiling import Ceiling
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, Stack
from tests.perf.windows import Window

CONNECTIONS = 48


def measure(bench: Bench) -> Found:
    """Measure both in turns, with the same number of processes."""
    settings = {**bench.settings, **ON_EVERY_CORE, **AS_CHOSEN}
    payload = bench.photographs()
    rest: list[Window] = []
    alone: list[float] = []
    with ExitStack() as held:
        stack = held.enter_context(Stack(("imagenet",), settings, bench.found))
        processes = len(stack.consumer_pids("imagenet"))
        ceiling = held.enter_context(Ceiling("imagenet", processes, {**settings, **stack.data}))
        bench.generator.closed(stack.url, payload, CONNECTIONS, 1.0)
        runs, rows = ceiling.runs, ceiling.preferred
        count, seconds = bench.either(3, 1), bench.either(6.0, 2.0)
        for number in bench.rounds(count, "photographs", 70.0):
            rest.append(bench.generator.closed(stack.url, payload, CONNECTIONS, seconds))
            bench.say(f"round {number} of {count}: photographs: {told(rest[-1])}")
            alone.append(ceiling.rate(seconds, rows, PHOTOS))
            bench.say(f"round {number} of {count}: the model alone, decoding included: {alone[-1]:,.1f}/s")
    rates = [window.rate_per_s for window in rest]
    return Found(
        settings=settings,
        figures=[
            Figure(what=f"`imagenet`, JPEG photographs, REST, {CONNECTIONS} connections", unit="per_s", values=rates,
                   command=bench.generator.command(payload, CONNECTIONS), higher_is_better=True),
            Figure(what=f"… the model alone, {runs}, {processes} processes, decoding included", unit="per_s",
                   values=alone, command="`python -m tests.perf.programs.ceiling imagenet INDEX`",
                   higher_is_better=True),
            Figure(what="… REST over that", unit="percent", values=ratios(rates, alone), command="both, in turns",
                   limit=0.85, higher_is_better=True),
        ],
    )  # fmt: skip

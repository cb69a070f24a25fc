"""A quick network on raw pixels: through REST, from a queue that is always full, and alone in a loop."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import fmean

from tests.perf import scrape
from tests.perf.context import Bench, Found
from tests.perf.load import produce, told
from tests.perf.programs.ceiling import Ceiling
from tests.perf.report.figures import Bar, Chart, Figure, Panel
from tests.perf.report.maths import ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, Stack
from tests.perf.windows import Window

MODEL = "bench-mobilenet"
CONNECTIONS = 48


def measure(bench: Bench) -> Found:
    """Measure the three in turns, with the same number of processes for the model."""
    settings = {**bench.settings, **ON_EVERY_CORE, **AS_CHOSEN}
    payload = bench.pixels(MODEL)
    rest: list[Window] = []
    full: list[Window] = []
    alone: list[float] = []
    calm: list[Window] = []
    with ExitStack() as held:
        stack = held.enter_context(Stack((MODEL,), settings, bench.found))
        processes = len(stack.consumer_pids(MODEL))
        ceiling = held.enter_context(Ceiling(MODEL, processes, {**settings, **stack.data}))
        runs, rows = ceiling.runs, ceiling.preferred
        seconds, count = bench.either(5.0, 1.5), bench.either(4, 1)
        bench.generator.closed(stack.url, payload, CONNECTIONS, 1.0)
        for number in bench.rounds(count, MODEL, 100.0):
            rest.append(_scraped(bench, stack, CONNECTIONS, seconds))
            bench.say(f"round {number} of {count}: {CONNECTIONS} connections: {told(rest[-1])}")
            full.append(produce(stack, payload, seconds, in_flight=128))
            bench.say(f"round {number} of {count}: direct producer: {told(full[-1])}")
            alone.append(ceiling.rate(seconds, rows))
            bench.say(f"round {number} of {count}: the model alone: {alone[-1]:,.0f}/s")
        calm.append(_scraped(bench, stack, 1, seconds))
        bench.say(f"one connection: {told(calm[-1])}")
    direct = """`python -m tests.perf.programs.direct '{"model": "bench-mobilenet", …}'`"""
    rest_rate, full_rate = [w.rate_per_s for w in rest], [w.rate_per_s for w in full]
    command = bench.generator.command(payload, CONNECTIONS)
    model = f"`python -m tests.perf.programs.ceiling {MODEL} INDEX`, {processes} processes"
    better = {"higher_is_better": True}
    figures = [
        Figure(what=f"`{MODEL}`, raw pixels, REST, {CONNECTIONS} connections: images", unit="per_s", values=rest_rate,
               command=command, **better),
        Figure(what="… p99", unit="ms", values=[w.p99_ms for w in rest if w.p99_ms is not None], command=command),
        Figure(what="… from a queue kept full by a direct producer", unit="per_s", values=full_rate, command=direct,
               **better),
        Figure(what="… REST over that", unit="percent", values=ratios(rest_rate, full_rate), command="both, in turns",
               limit=0.85, **better),
        Figure(what="device busy at saturation, direct producer", unit="percent",
               values=[w.busy_share for w in full if w.busy_share is not None], command=direct, limit=0.95, **better),
        Figure(what=f"the model alone, {runs}, {processes} processes with a core each, batches of {rows}", unit="per_s",
               values=alone, command=model, **better),
        Figure(what="… direct producer over that", unit="percent", values=ratios(full_rate, alone),
               command="both, in turns", limit=0.8, **better),
    ]  # fmt: skip
    return Found(figures=figures, charts=[_chart(rest, calm)], settings=settings)


def _scraped(bench: Bench, stack: Stack, connections: int, seconds: float) -> Window:
    """Load through REST, and ask the consumers what the time went into."""
    from dataclasses import replace
    from time import monotonic

    urls = stack.metrics_urls(MODEL)
    before, begun_s = [scrape.read(url) for url in urls], monotonic()
    window = bench.generator.closed(stack.url, bench.pixels(MODEL), connections, seconds)
    found = scrape.change(before, [scrape.read(url) for url in urls], monotonic() - begun_s)
    return replace(window, busy_share=found.busy_share, batch_rows=found.batch_rows, stages_ms=found.stages_ms)


def parts(windows: list[Window]) -> dict[str, float]:
    """Split the mean latency into the stages that a request passes one after another. Pure.

    What the consumers do not account for is HTTP, admission, the reply's way back and the generator.
    """

    def mean(stage: str) -> float:
        return fmean(window.stages_ms.get(stage, 0.0) for window in windows)

    named = {
        "in the queue": mean("queue"),
        "filling the batch": mean("wait"),
        "the model": mean("inference"),
        "answer and commit": mean("postprocess") + mean("commit"),
    }
    total = fmean(window.mean_ms or 0.0 for window in windows)
    return {**named, "HTTP and the way there and back": max(0.0, total - sum(named.values()))}


def _chart(rest: list[Window], calm: list[Window]) -> Chart:
    return Chart(
        name="time",
        alt="Where the time of a request goes, at one connection and at 48",
        panels=[
            Panel(
                title=f"Where a request's time goes: {MODEL}, raw pixels through REST",
                told="mean of all requests, in ms, by the consumers' own histograms; the rest is what they do not see",
                bars=[
                    Bar(label="1 connection", parts=parts(calm)),
                    Bar(label=f"{CONNECTIONS} connections", parts=parts(rest)),
                ],
                unit="ms",
            )
        ],
    )

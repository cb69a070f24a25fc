"""Before batching and after: plain torch one by one, plain torch in batches, and what Headrace chooses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tests.perf import scrape
from tests.perf.context import Bench, Found
from tests.perf.load import produce, told
from tests.perf.report.figures import Cells, Chart, Figure, Line, Panel, Table, Unit
from tests.perf.report.maths import middle, ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, PLAIN_TORCH, Stack
from tests.perf.windows import Window

MODEL: Final = "bench-mobilenet"
OFF: Final = "plain torch, one by one"
ON: Final = "plain torch, batches"
CHOSEN: Final = "what Headrace chooses"
SIDES: Final[Mapping[str, Mapping[str, str]]] = {
    OFF: {**PLAIN_TORCH, "HEADRACE_MAX_BATCH": "1"},
    ON: {**PLAIN_TORCH, "HEADRACE_MAX_BATCH": "32"},
    CHOSEN: {**AS_CHOSEN, "HEADRACE_MAX_BATCH": "32"},
}
SHARES: Final = (0.5, 0.8, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
MOST: Final = {OFF: 1.5, ON: 3.0}
TOLD_SHARES: Final = (0.8, 1.5)
"""Offered rates as shares of what plain torch does one by one; those told are measured three times."""

DIRECT: Final = """`python -m tests.perf.programs.direct '{"model": "bench-mobilenet", …}'`"""
REST: Final = "`python -m loadgen run --rate R --arrivals poisson`"


LONGEST_P99_MS: Final = 60.0


@dataclass(slots=True)
class Side:
    """What was measured of one stack: with the queue full, and at each share of the capacity of `OFF`."""

    stack: Stack
    full: list[Window] = field(default_factory=list)
    offered: dict[float, list[Window]] = field(default_factory=dict)


def measure(bench: Bench) -> Found:
    """Measure the three in turns, first with a full queue and then at rates through REST."""
    with ExitStack() as held:
        sides = {
            name: Side(
                held.enter_context(Stack((MODEL,), {**bench.settings, **ON_EVERY_CORE, **settings}, bench.found))
            )
            for name, settings in SIDES.items()
        }
        _saturate(bench, sides)
        capacity = middle(w.rate_per_s for w in sides[OFF].full) or 1.0
        _offer(bench, capacity, sides)
        chosen = scrape.running(scrape.read(sides[CHOSEN].stack.metrics_urls(MODEL)[0])) or "torch in fp32"
    return Found(
        settings={**bench.settings, **ON_EVERY_CORE},
        figures=_figures(sides),
        tables=[msgspec.structs.replace(table(sides), remarks=[f"Headrace chose {chosen} a batch."])],
        charts=[_chart(sides)],
    )


def _saturate(bench: Bench, sides: Mapping[str, Side]) -> None:
    count = bench.either(5, 1)
    for number in bench.rounds(count, "batching", 90.0):
        for name, side in sides.items():
            side.full.append(produce(side.stack, bench.pixels(MODEL), bench.either(3.0, 1.0), in_flight=128))
            bench.say(f"round {number} of {count}: {name}: {told(side.full[-1])}")


def _offer(bench: Bench, capacity: float, sides: Mapping[str, Side]) -> None:
    """Offer rates through REST; a stack that is overloaded is not asked for more, and comes last in its turn."""
    for share in bench.either(SHARES, TOLD_SHARES):
        count = bench.either(3, 1) if share in TOLD_SHARES else 1
        for _ in bench.rounds(count, f"{share:g} of the capacity", 60.0):
            for name, side in reversed(list(sides.items())):
                if share > MOST.get(name, share):
                    continue
                rate, seconds = capacity * share, bench.either(4.0, 1.5)
                window = bench.generator.open(side.stack.url, bench.pixels(MODEL), rate, seconds)
                side.offered.setdefault(share, []).append(window)
                bench.say(f"offered {rate:,.0f}/s ({share:g}), {name}: {told(window)}")


def table(sides: Mapping[str, Side]) -> Table:
    """Return what the README shows. Pure."""

    def line(what: str, unit: Unit, name: str, windows: Mapping[str, list[Window]]) -> Cells:
        values = [middle(getattr(w, name) for w in windows[side]) for side in sides]
        return Cells(what=what, unit=unit, values=values)

    full = {name: side.full for name, side in sides.items()}
    lines = [
        line("throughput, queue always full", "per_s", "rate_per_s", full),
        line("device-busy share, queue always full", "percent", "busy_share", full),
        line("p50 latency, 128 requests always under way", "ms", "p50_ms", full),
        line("p99 latency, 128 requests always under way", "ms", "p99_ms", full),
    ]
    capacity = middle(w.rate_per_s for w in sides[OFF].full) or 0.0
    for share in TOLD_SHARES:
        offered = {name: side.offered.get(share, []) for name, side in sides.items()}
        where = f"{capacity * share:,.0f}/s through REST, {share:g} of what plain torch does one by one"
        lines.append(line(f"p50 latency at {where}", "ms", "p50_ms", offered))
        lines.append(line("p99 latency at that rate", "ms", "p99_ms", offered))
    return Table(
        title=f"`{MODEL}`",
        columns=list(sides),
        lines=lines,
        missing="overloaded: some requests failed",
        compared=True,
    )


def _figures(sides: Mapping[str, Side]) -> list[Figure]:
    rates = {name: [w.rate_per_s for w in side.full] for name, side in sides.items()}
    figures = [
        Figure(what=f"`{MODEL}`, {name}, queue always full", unit="per_s", values=rates[name], command=DIRECT,
               higher_is_better=True)
        for name in sides
    ]  # fmt: skip
    for what, ours, limit in (
        (f"… {ON} over one by one", ON, 3.0),
        (f"… {CHOSEN} over plain torch, one by one", CHOSEN, 5.0),
    ):
        figures.append(
            Figure(what=what, unit="times", values=ratios(rates[ours], rates[OFF]), command="both, in turns",
                   higher_is_better=True, limit=limit)
        )  # fmt: skip
    for share in TOLD_SHARES:
        for name, side in sides.items():
            values = [w.p99_ms for w in side.offered.get(share, [])]
            what = f"p99 through REST at {share:g} of what plain torch does one by one: {name}"
            figures += _present(what, values, LONGEST_P99_MS if name == CHOSEN and share > 1 else None)
    return figures


def _present(what: str, values: list[float | None], limit: float | None) -> list[Figure]:
    """A window in which requests failed has no p99; how many there were stands beside the figure."""
    there = [value for value in values if value is not None]
    if not there:
        return []
    if len(there) < len(values):
        what += f" ({len(values) - len(there)} windows overloaded)"
    return [Figure(what=what, unit="ms", values=there, command=REST, limit=limit)]


def _chart(sides: Mapping[str, Side]) -> Chart:
    capacity = middle(w.rate_per_s for w in sides[OFF].full) or 0.0

    def lines(attribute: str) -> list[Line]:
        found = []
        for name, side in sides.items():
            points = [(share, middle(getattr(w, attribute) for w in ws)) for share, ws in side.offered.items()]
            there = [(share * capacity, value) for share, value in sorted(points) if value is not None]
            found.append(Line(label=name, x=[x for x, _ in there], y=[y for _, y in there]))
        return found

    told_ = f"{MODEL}, through REST, Poisson arrivals"
    return Chart(
        name="batching",
        alt="Throughput and p99 against the offered rate, for plain torch and for what Headrace chooses",
        panels=[
            Panel(title="Answers a second", told=told_, x_label="offered, requests/s", lines=lines("rate_per_s")),
            Panel(title="p99, ms", told="the same windows; failures count as infinitely slow",
                  x_label="offered, requests/s", lines=lines("p99_ms"), y_log=True),
        ],
    )  # fmt: skip

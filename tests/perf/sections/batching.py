"""Before batching and after: the same consumers with batches of up to 32, and with single requests."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.perf.context import Bench, Found
from tests.perf.figures import Chart, Comparison, Figure, Line, Panel
from tests.perf.load import produce, told
from tests.perf.maths import middle, ratios
from tests.perf.stack import Stack, best_precision, on_every_core
from tests.perf.windows import Window

MODEL = "bench-mobilenet"
OFF, ON = "1", "32"
SHARES = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
OFF_SHARES = (0.2, 0.5, 0.8, 1.0, 1.5)
TOLD_SHARES = (0.8, 1.5)
"""Offered rates as shares of what the stack without batching can do; the last are those with a target."""

DIRECT = """`python -m tests.perf.direct '{"model": "bench-mobilenet", …}'`"""
REST = "`python -m loadgen run --rate R --arrivals poisson`"


@dataclass(slots=True)
class Side:
    """What was measured of one stack: with the queue full, and at each share of the unbatched capacity."""

    stack: Stack
    full: list[Window] = field(default_factory=list)
    offered: dict[float, list[Window]] = field(default_factory=dict)


def measure(bench: Bench) -> Found:
    """Compare in fp32, and in the precision that Headrace chooses for this machine; then offer rates through REST."""
    found = Found(settings={**bench.settings, **on_every_core()})
    best = best_precision()
    for precision in ("fp32",) if best == "fp32" else ("fp32", best):
        settings = {**bench.settings, **on_every_core(precision)}
        with ExitStack() as held:
            sides = {
                most: Side(held.enter_context(Stack((MODEL,), {**settings, "HEADRACE_MAX_BATCH": most})))
                for most in (OFF, ON)
            }
            _saturate(bench, precision, sides)
            if precision == best:
                capacity = middle(w.rate_per_s for w in sides[OFF].full) or 1.0
                _offer(bench, capacity, sides)
        found.figures += _figures(precision, sides)
        found.comparisons[f"`{MODEL}`, {precision}"] = compare(sides)
        if precision == best:
            found.charts.append(_chart(precision, sides))
    if best == "fp32":
        bench.notes.append("Precision `auto` is unknown to this version; batching was compared in fp32 only.")
    return found


def _saturate(bench: Bench, precision: str, sides: dict[str, Side]) -> None:
    count = bench.either(3, 1)
    for number in bench.rounds(count, f"batching, {precision}", 60.0):
        for most, side in sides.items():
            side.full.append(produce(side.stack, bench.pixels(MODEL), bench.either(4.0, 1.5), in_flight=128))
            bench.say(f"round {number} of {count}: {precision}, max batch {most}: {told(side.full[-1])}")


def _offer(bench: Bench, capacity: float, sides: dict[str, Side]) -> None:
    """At the shares with a target three windows, else one; an overloaded stack comes last in its turn."""
    for share in bench.either(SHARES, TOLD_SHARES):
        count = bench.either(3, 1) if share in TOLD_SHARES else 1
        for _ in bench.rounds(count, f"{share:g} of the capacity", 40.0):
            for most, side in reversed(sides.items()):
                if most == OFF and share not in OFF_SHARES:
                    continue
                rate, seconds = capacity * share, bench.either(4.0, 1.5)
                window = bench.generator.open(side.stack.url, bench.pixels(MODEL), rate, seconds)
                side.offered.setdefault(share, []).append(window)
                bench.say(f"offered {rate:,.0f}/s ({share:g}), max batch {most}: {told(window)}")


def compare(sides: dict[str, Side]) -> list[Comparison]:
    """Return the lines of the table. Pure."""
    off, on = sides[OFF], sides[ON]

    def line(what: str, unit: str, before: list[Window], after: list[Window], name: str) -> Comparison:
        return Comparison(
            what=what,
            unit=unit,  # type: ignore[arg-type]
            before=middle(getattr(w, name) for w in before),
            after=middle(getattr(w, name) for w in after),
        )

    lines = [
        line("throughput, queue always full", "per_s", off.full, on.full, "rate_per_s"),
        line("device-busy share, queue always full", "percent", off.full, on.full, "busy_share"),
        line("average latency, 128 requests always under way", "ms", off.full, on.full, "mean_ms"),
        line("p99 latency, 128 requests always under way", "ms", off.full, on.full, "p99_ms"),
    ]
    capacity = middle(w.rate_per_s for w in off.full) or 0.0
    for share in TOLD_SHARES:
        before, after = off.offered.get(share, []), on.offered.get(share, [])
        if before or after:
            where = f"{capacity * share:,.0f}/s through REST"
            lines.append(line(f"average latency at {where}", "ms", before, after, "mean_ms"))
            lines.append(line(f"p99 latency at {where}", "ms", before, after, "p99_ms"))
    return lines


def _figures(precision: str, sides: dict[str, Side]) -> list[Figure]:
    off, on = sides[OFF], sides[ON]
    rates = {most: [w.rate_per_s for w in side.full] for most, side in sides.items()}
    figures = [
        Figure(what=f"`{MODEL}`, {precision}, max batch {most}, queue always full", unit="per_s", values=rates[most],
               command=DIRECT, higher_is_better=True)
        for most in (OFF, ON)
    ]  # fmt: skip
    figures.append(
        Figure(what=f"… batching on over off, {precision}", unit="times", values=ratios(rates[ON], rates[OFF]),
               command="both, in turns", higher_is_better=True, limit=3.0)
    )  # fmt: skip
    for share in TOLD_SHARES:
        with_it = [w.p99_ms for w in on.offered.get(share, [])]
        without = [w.p99_ms for w in off.offered.get(share, [])]
        what = f"p99 through REST at {share:g} of the unbatched capacity, {precision}"
        for label, values, limit in (("off", without, None), ("on", with_it, 100.0 if share > 1 else None)):
            figures += _present(f"{what}: batching {label}", values, limit)
        if share < 1 and with_it:
            figures.append(Figure(what="… on over off", unit="ratio", values=ratios(with_it, without),
                                  command="both, in turns", limit=1.0))  # fmt: skip
    return figures


def _present(what: str, values: list[float | None], limit: float | None) -> list[Figure]:
    there = [value for value in values if value is not None]
    return [Figure(what=what, unit="ms", values=there, command=REST, limit=limit)] if there else []


def _chart(precision: str, sides: dict[str, Side]) -> Chart:
    capacity = middle(w.rate_per_s for w in sides[OFF].full) or 0.0
    names = {OFF: "off: one by one", ON: "on: up to 32"}

    def lines(attribute: str) -> list[Line]:
        found = []
        for most, side in sides.items():
            points = [(share, middle(getattr(w, attribute) for w in ws)) for share, ws in side.offered.items()]
            there = [(share * capacity, value) for share, value in sorted(points) if value is not None]
            found.append(Line(label=names[most], x=[x for x, _ in there], y=[y for _, y in there]))
        return found

    told_ = f"{MODEL}, {precision}, through REST, Poisson arrivals"
    return Chart(
        name="batching",
        alt="Throughput and p99 against the offered rate, with batching and without",
        panels=[
            Panel(title="Answers a second", told=told_, x_label="offered, requests/s", lines=lines("rate_per_s")),
            Panel(title="p99, ms", told="the same windows; failures count as infinitely slow",
                  x_label="offered, requests/s", lines=lines("p99_ms"), y_log=True),
        ],
    )  # fmt: skip

"""The adaptive policy against fixed windows, at rates from a tenth of the capacity to nearly all of it.

The model only waits, a·n + b per batch, so that what differs is the policy and not who gets the processor.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.perf.context import Bench, Found, Skipped
from tests.perf.load import Payload, produce
from tests.perf.programs.waiting_model import models_file
from tests.perf.report.figures import Chart, Figure, Line, Panel
from tests.perf.report.maths import middle
from tests.perf.stack import Stack, knows
from tests.perf.windows import Window

PER_ROW_MS, PER_BATCH_MS = 1.0, 4.0
WINDOWS_MS = ("0", "2", "5", "10")
SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)
LOW = 0.3
ADAPTIVE = "adaptive"


def measure(bench: Bench) -> Found:
    """Offer the same arrivals to each policy in turns."""
    if not knows("HEADRACE_BATCH_POLICY", ADAPTIVE):
        raise Skipped("This version has no adaptive batching policy, so there is nothing to compare.")
    models = bench.folder / "policy.toml"
    models.write_text(models_file(PER_ROW_MS, PER_BATCH_MS), "utf-8")
    settings = {**bench.settings, "HEADRACE_MODELS_FILE": str(models), "HEADRACE_CONSUMERS": "1"}
    payload = Payload("waiting", bench.echo().files)
    with ExitStack() as held:
        stacks = {
            ms: held.enter_context(Stack(("waiting",), {**settings, "HEADRACE_WINDOW_MS": ms,
                                                        "HEADRACE_BATCH_POLICY": "window"}))
            for ms in bench.either(WINDOWS_MS, WINDOWS_MS[:2])
        }  # fmt: skip
        stacks[ADAPTIVE] = held.enter_context(Stack(("waiting",), {**settings, "HEADRACE_BATCH_POLICY": ADAPTIVE}))
        capacity = produce(stacks["0"], payload, 2.0, in_flight=256).rate_per_s
        bench.say(f"capacity: {capacity:,.0f}/s")
        found = _offer(bench, payload, stacks, capacity)
    return Found(settings=dict(bench.settings), figures=_figures(found), charts=[_chart(found, capacity)])


Offered = dict[float, dict[str, list[Window]]]


def _offer(bench: Bench, payload: Payload, stacks: dict[str, Stack], capacity: float) -> Offered:
    found: Offered = {}
    for share in bench.either(SHARES, (0.3,)):
        for _ in range(bench.either(2, 1)):
            for name, stack in stacks.items():
                window = bench.generator.open(stack.url, payload, capacity * share, bench.either(4.0, 1.5), 0.5)
                found.setdefault(share, {}).setdefault(name, []).append(window)
        mean, best = _against(found[share], "mean_ms"), _against(found[share], "p99_ms")
        bench.say(f"{share:.0%} of the capacity: adaptive over the best fixed window: mean {mean}, p99 {best}")
    return found


def _against(by_policy: dict[str, list[Window]], name: str) -> float | None:
    """Return the adaptive policy's figure over the lowest of the fixed windows'; medians. Pure."""
    ours = middle(getattr(window, name) for window in by_policy[ADAPTIVE])
    fixed = [
        value
        for policy, windows in by_policy.items()
        if policy != ADAPTIVE and (value := middle(getattr(w, name) for w in windows)) is not None
    ]
    return None if ours is None or not fixed else ours / min(fixed)


def _figures(found: Offered) -> list[Figure]:
    command = "`python -m loadgen run --rate R`, `HEADRACE_BATCH_POLICY`, `HEADRACE_WINDOW_MS`"
    figures = []
    for share, by_policy in found.items():
        for name, what, limit in (("p99_ms", "p99", 1.1), ("mean_ms", "mean", 1.0 if share <= LOW else None)):
            value = _against(by_policy, name)
            figures.append(
                Figure(what=f"adaptive over the best fixed window, {share:.0%} of the capacity: {what}", unit="ratio",
                       values=[] if value is None else [value], command=command, limit=limit)
            )  # fmt: skip
    return figures


def _chart(found: Offered, capacity: float) -> Chart:
    policies = list(next(iter(found.values())))

    def lines(name: str) -> list[Line]:
        made = []
        for policy in policies:
            points = [(s * capacity, middle(getattr(w, name) for w in by[policy])) for s, by in found.items()]
            there = [(x, y) for x, y in points if y is not None]
            label = policy if policy == ADAPTIVE else f"window {policy} ms"
            made.append(Line(label=label, x=[x for x, _ in there], y=[y for _, y in there]))
        return made

    told = f"a model that waits {PER_ROW_MS:g}·n + {PER_BATCH_MS:g} ms; Poisson arrivals through REST"
    return Chart(
        name="policy",
        alt="Mean and p99 latency against the offered rate, for the adaptive policy and for fixed windows",
        panels=[
            Panel(title="Mean, ms", told=told, x_label="offered, requests/s", lines=lines("mean_ms")),
            Panel(title="p99, ms", told="the same windows", x_label="offered, requests/s", lines=lines("p99_ms")),
        ],
    )

"""Many consumers of a model that only waits: does the queue feed eight devices as it feeds one?"""

from __future__ import annotations

from contextlib import ExitStack

from tests.perf.context import Bench, Found
from tests.perf.load import Payload, produce, told
from tests.perf.programs.waiting_model import models_file
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import Stack

BATCH_MS = 20.0
MANY = 8


def measure(bench: Bench) -> Found:
    """Compare eight consumers with one, each with batches of 32, in turns."""
    models = bench.folder / "waiting.toml"
    models.write_text(models_file(0.0, BATCH_MS), "utf-8")
    settings = {**bench.settings, "HEADRACE_MODELS_FILE": str(models)}
    payload = Payload("waiting", bench.echo().files)
    rates: dict[int, list[float]] = {1: [], MANY: []}
    with ExitStack() as held:
        stacks = {
            count: held.enter_context(Stack(("waiting",), {**settings, "HEADRACE_CONSUMERS": str(count)}))
            for count in rates
        }
        rounds = bench.either(3, 1)
        for number in bench.rounds(rounds, "eight consumers", 40.0):
            for count, stack in stacks.items():
                window = produce(stack, payload, bench.either(4.0, 1.5), in_flight=96 * count)
                rates[count].append(window.rate_per_s)
                bench.say(f"round {number} of {rounds}: {count} consumers: {told(window)}")
    command = (
        f"`HEADRACE_CONSUMERS=N` with `tests.perf.programs.waiting_model`, {BATCH_MS:g} ms a batch, direct producer"
    )
    return Found(
        settings={**bench.settings},
        figures=[
            Figure(what=f"a model that waits {BATCH_MS:g} ms per batch of 32: one consumer", unit="per_s",
                   values=rates[1], command=command, higher_is_better=True),
            Figure(what=f"… {MANY} consumers", unit="per_s", values=rates[MANY], command=command,
                   higher_is_better=True),
            Figure(what=f"… over {MANY} times one", unit="percent", command="both, in turns", limit=0.95,
                   values=[value / MANY for value in ratios(rates[MANY], rates[1])], higher_is_better=True),
        ],
    )  # fmt: skip

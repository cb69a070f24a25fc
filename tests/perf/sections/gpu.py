"""On a GPU, where there is one: the pipeline against the replay of a CUDA graph alone; batching on against off."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from tests.children import ROOT
from tests.perf import load
from tests.perf.context import Bench, Found, Skipped
from tests.perf.load import produce, told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import Stack
from tests.perf.windows import Window

ROWS = 64
MODELS = ("bench-resnet50", "bench-mobilenet")
_RESNET = '\n[models.bench-resnet50]\nfamily = "torchvision"\narchitecture = "resnet50"\nweights = "random"\n'


def measure(bench: Bench) -> Found:
    """For each network: graph alone, batches of up to 64, single requests, in turns."""
    if load.run([sys.executable, "-c", "import torch; print(torch.cuda.is_available())"], 120.0).strip() != "True":
        raise Skipped("torch sees no GPU on this machine.")
    models = bench.folder / "gpu.toml"
    models.write_text((ROOT / "models.toml").read_text("utf-8") + _RESNET, "utf-8")
    settings = {**bench.settings, "HEADRACE_MODELS_FILE": str(models), "HEADRACE_DEVICE": "cuda",
                "HEADRACE_PRECISION": "fp16"}  # fmt: skip
    found = Found(settings={**bench.settings, "HEADRACE_DEVICE": "cuda", "HEADRACE_PRECISION": "fp16"})
    for model in MODELS:
        windows: dict[int, list[Window]] = {1: [], ROWS: []}
        alone: list[float] = []
        with ExitStack() as held:
            stacks = {
                most: held.enter_context(Stack((model,), {**settings, "HEADRACE_MAX_BATCH": str(most)}))
                for most in windows
            }
            seconds, count = bench.either(5.0, 2.0), bench.either(3, 1)
            for number in bench.rounds(count, model, 120.0):
                replay = [
                    sys.executable,
                    "-m",
                    "tests.perf.programs.gpu_replay",
                    str(models),
                    model,
                    str(ROWS),
                    str(seconds),
                ]
                alone.append(float(load.run(replay, 120.0).strip().splitlines()[-1]))
                bench.say(f"round {number} of {count}: {model}, graph replay alone: {alone[-1]:,.0f}/s")
                for most, stack in stacks.items():
                    windows[most].append(produce(stack, bench.pixels(model), seconds, in_flight=8 * ROWS))
                    bench.say(f"round {number} of {count}: {model}, max batch {most}: {told(windows[most][-1])}")
        found.figures += _figures(model, alone, windows)
    return found


def _figures(model: str, alone: list[float], windows: dict[int, list[Window]]) -> list[Figure]:
    rates = {most: [window.rate_per_s for window in found] for most, found in windows.items()}
    producer, both = "`python -m tests.perf.programs.direct …`", "both, in turns"
    busy = [window.busy_share for window in windows[ROWS] if window.busy_share is not None]
    better = True
    return [
        Figure(what=f"`{model}`, fp16: graph replay alone, batches of {ROWS}", unit="per_s", values=alone,
               command="`python -m tests.perf.programs.gpu_replay`", higher_is_better=better),
        Figure(what=f"… Headrace, max batch {ROWS}, direct producer", unit="per_s", values=rates[ROWS],
               command=producer, higher_is_better=better),
        Figure(what="… over the replay alone", unit="percent", values=ratios(rates[ROWS], alone), command=both,
               higher_is_better=better, limit=0.9),
        Figure(what="… device busy", unit="percent", values=busy, command=producer, higher_is_better=better,
               limit=0.95),
        Figure(what="… Headrace, max batch 1", unit="per_s", values=rates[1], command=producer,
               higher_is_better=better),
        Figure(what="… batching on over off", unit="times", values=ratios(rates[ROWS], rates[1]), command=both,
               higher_is_better=better, limit=10.0),
    ]  # fmt: skip

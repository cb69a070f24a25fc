"""The runtimes beside each other, one core, without a queue; then what a consumer with each takes to start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tests.children import clean_environment
from tests.perf import load, processes
from tests.perf.context import Bench, Found
from tests.perf.narrow import copies
from tests.perf.report.figures import Cells, Figure, Table
from tests.perf.report.kinds import is_narrowed, remarks
from tests.perf.report.maths import middle, ratios
from tests.perf.report.runtime_columns import PLAIN, SIZES, Column, Outcome
from tests.perf.stack import Process

MODELS: Final = ("imagenet", "bench-mobilenet", "bench-resnet18")
AGAINST_PLAIN: Final = "bench-mobilenet"
ROWS: Final = 8
"""The model and the batch for which there is a target."""

_LIMIT_S: Final = 600.0
_OPENED: Final = r"^Opened (\S+) (\S+); torch is (.*)\.$"


@dataclass(slots=True)
class Start:
    """What starts of one runtime took, and what the process held then."""

    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    torch: str = ""


def measure(bench: Bench) -> Found:
    """Measure the models one after another; within one the runtimes take turns."""
    found, narrowed = Found(), _narrowed(bench)
    for model in MODELS:
        folder = bench.folder / f"runtimes-{model}"
        outcome = _tried(model, bench.either(3, 1), folder, narrowed)
        starts = _starts(bench, model, outcome, narrowed)
        found.kind = outcome.kind
        found.tables.append(table(model, outcome, starts))
        if model == AGAINST_PLAIN:
            found.figures += figures(outcome)
    found.tables[-1] = msgspec.structs.replace(
        found.tables[-1], remarks=[*found.tables[-1].remarks, *remarks(os.environ, bool(narrowed))]
    )
    return found


def _narrowed(bench: Bench) -> dict[str, str]:
    """Where the reader forbids torch some instructions, forbid them to the others, too, if that can be done here."""
    if not is_narrowed(os.environ) or not copies.can_be_made():
        return {}
    bench.say("making copies of the libraries that obey no variable")
    return copies.environment()


def _tried(model: str, rounds: int, folder: Path, narrowed: Mapping[str, str]) -> Outcome:
    argv = [sys.executable, "-m", "tests.perf.programs.runtimes", model, str(rounds), str(folder)]
    return msgspec.json.decode(load.run(argv, _LIMIT_S, **narrowed).strip().splitlines()[-1], type=Outcome)


def _starts(bench: Bench, model: str, outcome: Outcome, narrowed: Mapping[str, str]) -> dict[tuple[str, str], Start]:
    """Start a consumer's own code with torch, and with each file that was built."""
    asked = {
        (one.runtime, one.precision): one.data
        for one in outcome.columns
        if one.data or (one.runtime, one.precision) == ("torch", "fp32")
    }
    found = {name: Start() for name in asked}
    count = bench.either(3, 1)
    for number in bench.rounds(count, f"starts of {model}", 60.0):
        for (runtime, precision), data in asked.items():
            start = found[runtime, precision]
            _start(model, runtime, precision, data or str(bench.folder / "nothing-found"), start, narrowed)
            told = f"{start.seconds[-1]:.1f} s, {start.resident[-1] / 1e6:.0f} MB"
            bench.say(f"start {number} of {count}: {model}, {runtime} in {precision}: {told}")
    return found


def _start(model: str, runtime: str, precision: str, data: str, into: Start, narrowed: Mapping[str, str]) -> None:
    settings = {
        "HEADRACE_DATA_DIR": data, "HEADRACE_TORCH_THREADS": "1", "HEADRACE_TUNE": "off",
        "HEADRACE_RUNTIME": runtime, "HEADRACE_PRECISION": precision, "HEADRACE_LOG_LEVEL": "warning", **narrowed,
    }  # fmt: skip
    with Process(["-m", "tests.perf.programs.opening", model], clean_environment(**settings)) as process:
        opened = process.until(_OPENED)
        into.seconds.append(time.monotonic() - process.started_s)
        into.resident.append(processes.resident_bytes(process.popen.pid))
        if (opened[1], opened[2]) != (runtime, precision):
            raise ValueError(f"{runtime} in {precision} was to be opened, and {opened[1]} in {opened[2]} was.")
        into.torch = opened[3]


def table(model: str, outcome: Outcome, starts: Mapping[tuple[str, str], Start]) -> Table:
    """Return a column for each runtime and precision that ran. Pure."""
    columns = [one for one in outcome.columns if one.rates]
    begun = [starts.get((one.runtime, one.precision), Start()) for one in columns]
    lines = [
        Cells(
            what=f"rows a second, batches of {size}", unit="per_s", values=[middle(one.rates[size]) for one in columns]
        )
        for size in SIZES
    ]
    lines += [
        Cells(what="start to the first answer", unit="s", values=[middle(one.seconds) for one in begun]),
        Cells(what="resident then", unit="bytes", values=[middle(one.resident) for one in begun]),
    ]
    return Table(
        title=f"`{model}`",
        columns=[_head(one) for one in columns],
        lines=lines,
        remarks=[*_refusals(outcome.columns), *_without_torch(columns, begun)],
    )


def _head(column: Column) -> str:
    return f"{column.runtime}, {column.precision}"


def _refusals(columns: Sequence[Column]) -> list[str]:
    told = [f"{_head(one)}: {one.refused}" for one in columns if one.refused]
    return [f"Not used: {' '.join(told)}"] if told else []


def _without_torch(columns: Sequence[Column], begun: Sequence[Start]) -> list[str]:
    names = [_head(one) for one, start in zip(columns, begun, strict=True) if start.torch == "not imported"]
    return [f"Started without importing torch: {', '.join(names)}."] if names else []


def figures(outcome: Outcome) -> list[Figure]:
    """Return how many times the fastest does what plain torch does, in fp32 and whatever the precision. Pure."""
    plain = next(one for one in outcome.columns if one.runtime == PLAIN)
    used = [one for one in outcome.columns if one.rates and not one.refused and one is not plain]
    found = []
    for what, among, limit in (
        ("in fp32", [one for one in used if one.precision == "fp32"], 3.0),
        ("in any precision", used, None),
    ):
        best = max(among, key=lambda one: middle(one.rates[ROWS]) or 0.0)
        told = f"the fastest {what} ({_head(best)}) over torch in plain code"
        found.append(
            Figure(
                what=f"`{AGAINST_PLAIN}`, batches of {ROWS}: {told}",
                unit="times", values=ratios(best.rates[ROWS], plain.rates[ROWS]), higher_is_better=True, limit=limit,
                command="`python -m tests.perf.programs.runtimes`, in turns",
            )
        )  # fmt: skip
    return found

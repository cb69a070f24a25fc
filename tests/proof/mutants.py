"""[I/O] `make mutants`: break the service in twelve ways and see whether the gate says so with the right exit code.

Each mutant is the short form of the gate on a model that works 20 ms: the very commands of a CI job, as processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from loadgen.comparing.stack import RunningStack, running_stack
from loadgen.errors import (
    EXIT_FAILED,
    EXIT_INVALID,
    EXIT_OK,
    EXIT_OVER_BUDGET,
    EXIT_REGRESSION,
    EXIT_USAGE,
    EXIT_WRONG_ANSWERS,
    LoadgenError,
)
from loadgen.gate.github import append_summary
from loadgen.results.files import write_atomically
from loadgen.scenario import parse_target
from tests.proof import faults

MODEL: Final = "synthetic"
RATE_PER_S: Final = 40
RUN_S: Final = 4.0
WARMUP_S: Final = 0.4
_LIMIT_S: Final = 300.0

BUDGETS: Final = f"""\
[models.{MODEL}]
mean_ms = 100
p95_ms = 250
rate_per_s = {RATE_PER_S}
duration_s = {RUN_S}
payload = ["payload.bin", "other.bin"]
precision = "fp32"
window_s = 0.6
concurrency = 32
"""
VERDICTS: Final = (EXIT_OK, EXIT_OVER_BUDGET, EXIT_REGRESSION, EXIT_WRONG_ANSWERS, EXIT_INVALID)
_SLOWER: Final = "Two independent batches say so"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault, and the exit code that it must lead to.

    `says` must stand in what the gate prints: 20 is also the code of a result that is not there, for whatever reason.
    `options` are the model's, `settings` the stack's. `compares`: whether the base is measured as well, with windows of
    `offline_requests`.
    `least_share`: in how many of many repetitions the code must come out.
    """

    name: str
    what: str
    expected: int
    says: str
    options: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    compares: bool = False
    offline_requests: int = 128
    least_share: float = 1.0
    on_request: bool = False


MUTANTS: Final = (
    Mutant("none", "nothing is wrong", EXIT_OK, f"{MODEL}: PASS", compares=True, least_share=0.9),
    Mutant("delayed", "each answer comes 600 ms later", EXIT_OVER_BUDGET, "The mean latency is "),
    Mutant(
        "slower",
        "inference takes 1.3 times as long, budgets still met",
        EXIT_REGRESSION,
        _SLOWER,
        {"slower": 1.3},
        compares=True,
        least_share=0.95,
    ),
    Mutant(
        "unbatched",
        "batching is off",
        EXIT_REGRESSION,
        _SLOWER,
        settings={"HEADRACE_MAX_BATCH": "1"},
        compares=True,
        offline_requests=32,
        least_share=0.95,
    ),
    Mutant(
        "wrong",
        "answers are wrong, and come in half the time",
        EXIT_WRONG_ANSWERS,
        ", asked alone; 0.01 is allowed",
        {"slower": 0.5, "wrong": 1},
        compares=True,
    ),
    Mutant(
        "mixed",
        "all rows of a batch get the answer of its first",
        EXIT_WRONG_ANSWERS,
        ", asked among others; 0.01 is allowed",
        {"mixed": 1},
        compares=True,
    ),
    Mutant("errors", "5% of the requests fail", EXIT_INVALID, "x status 422 invalid_input", {"fail_every": 20}),
    Mutant("killed", "a consumer is killed in the middle", EXIT_INVALID, "The consumers counted "),
    Mutant("few", "only 50 requests are measured", EXIT_INVALID, "Only 50 requests were measured"),
    Mutant("throttled", "the generator is stopped half of the time", EXIT_INVALID, "The generator itself was late"),
    Mutant("empty", "the result is missing, then empty", EXIT_INVALID, "run.json is empty"),
    Mutant(
        "precision",
        "another precision is served",
        EXIT_INVALID,
        "The service served bf16; the budgets hold for fp32",
        settings={"HEADRACE_PRECISION": "bf16"},
    ),
    Mutant(
        "slightly-slower",
        "inference takes 1.1 times as long",
        EXIT_REGRESSION,
        _SLOWER,
        {"slower": 1.1},
        compares=True,
        least_share=0.7,
        on_request=True,
    ),
)
"""The last is not part of the proof: it measures how often a small regression is found."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant, once."""

    folder: Path
    stack: Path
    seed: int

    def loadgen(self, *arguments: str, log: str) -> subprocess.Popen[str]:
        """Start one of the commands; what it prints goes to a file."""
        with open(self.folder / log, "w", encoding="utf-8") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "loadgen", *arguments],
                cwd=Path(__file__).parents[2],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            )

    def write_files(self, mutant: Mutant) -> None:
        """Write budgets, payload and the two models files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        budgets = f"{BUDGETS}offline_requests = {mutant.offline_requests}\n"
        (self.folder / "budgets.toml").write_text(budgets, encoding="utf-8")
        for name, body in (("payload", b"headrace"), ("other", b"tailrace")):
            (self.folder / f"{name}.bin").write_bytes(body * 8)
        for name, options in (("base", {}), ("candidate", mutant.options)):
            (self.folder / f"{name}.toml").write_text(models_file(options), encoding="utf-8")

    def settings(self, mutant: Mutant, side: str = "candidate") -> dict[str, str]:
        """Return what a side's stack is started with."""
        own = mutant.settings if side == "candidate" else {}
        models = str((self.folder / f"{side}.toml").resolve())
        return {"HEADRACE_MODELS_FILE": models, "HEADRACE_PRECISION": "fp32", "HEADRACE_CONSUMERS": "1", **own}

    @property
    def budgets(self) -> str:
        """Where the budgets are."""
        return str(self.folder / "budgets.toml")


def models_file(options: dict[str, float]) -> str:
    """Return a models file with the synthetic model; its options are those that differ."""
    pairs = ", ".join(f"{name} = {value}" for name, value in {"batch_ms": 20.0, "row_ms": 0.2, **options}.items())
    return (
        f'[models.{MODEL}]\nfamily = "python"\nentry = "examples.synthetic_model:create"\nmax_batch = 16\n'
        f"window_ms = 2\noptions = {{ {pairs} }}\n"
    )


def run_trial(mutant: Mutant, trial: Trial) -> int:
    """Carry out the gate on a mutant and return its exit code.

    Raises:
        LoadgenError: the trial shows nothing: the stack did not start, a measurement failed, or the gate has the right
            code for another reason.
    """
    trial.write_files(mutant)
    if mutant.name == "empty":
        (trial.folder / "run.json").unlink(missing_ok=True)
        missing = _gate(replace(mutant, says="Cannot read "), trial)
        (trial.folder / "run.json").write_text("")
        empty = _gate(mutant, trial)
        return missing if missing == empty else EXIT_FAILED
    with running_stack(trial.stack, MODEL, trial.settings(mutant), trial.folder / "stack.log") as stack:
        _run(mutant, trial, stack)
    if mutant.compares:
        _compare(mutant, trial)
    return _gate(mutant, trial, *(("--compare", str(trial.folder / "compare.json")) if mutant.compares else ()))


def _run(mutant: Mutant, trial: Trial, stack: RunningStack) -> None:
    with ExitStack() as held:
        url = stack.url
        if mutant.name == "delayed":
            target = parse_target(url)
            url = held.enter_context(faults.delaying_proxy((target.host, target.port), 0.6))
        duration_s = 50 / RATE_PER_S if mutant.name == "few" else RUN_S
        metrics = [part for address in stack.metrics_urls for part in ("--metrics", address)]
        arguments = ["--url", url, "--model", MODEL, "--budgets", trial.budgets, *metrics, "--seed", str(trial.seed)]
        arguments += ["--duration", f"{duration_s}s", "--warmup", f"{WARMUP_S}s", "--out", str(trial.folder)]
        process = trial.loadgen("run", *arguments, log="run.log")
        try:
            if mutant.name == "throttled":
                faults.throttle(process, _LIMIT_S)
            elif mutant.name == "killed":
                _await_text(trial.folder / "run.log", "measure", process)
                if not faults.kill_consumer(stack.pid):
                    raise LoadgenError("No consumer was found that could be killed.")
            _must_succeed(process, trial.folder / "run.log")
        finally:
            _end(process)


def _compare(mutant: Mutant, trial: Trial) -> None:
    base, candidate = trial.settings(mutant, "base"), trial.settings(mutant)
    sets = [part for name, value in base.items() for part in ("--base-set", f"{name}={value}")]
    sets += [part for name, value in candidate.items() for part in ("--candidate-set", f"{name}={value}")]
    arguments = ["--base", str(trial.stack), "--candidate", str(trial.stack), *sets, "--model", MODEL]
    arguments += [
        "--budgets",
        trial.budgets,
        "--seed",
        str(trial.seed),
        "--out",
        str(trial.folder),
    ]
    process = trial.loadgen("compare", *arguments, log="compare.log")
    try:
        _must_succeed(process, trial.folder / "compare.log")
    finally:
        _end(process)


def _gate(mutant: Mutant, trial: Trial, *more: str) -> int:
    arguments = ["--budgets", trial.budgets, "--run", str(trial.folder / "run.json"), *more]
    code = trial.loadgen("gate", *arguments, log="gate.log").wait(_LIMIT_S)
    path = trial.folder / "gate.log"
    check_reason(mutant, code, path.read_text(encoding="utf-8"), path)
    return code


def check_reason(mutant: Mutant, code: int, printed: str, path: Path) -> None:
    """Check that a gate with the right exit code has it for the right reason.

    Raises:
        LoadgenError: what it printed does not say so.
    """
    if code == mutant.expected and mutant.says not in printed:
        raise LoadgenError(f"The gate ended with {code}, and not because {mutant.what}: {path} lacks {mutant.says!r}.")


def _must_succeed(process: subprocess.Popen[str], log: Path) -> None:
    try:
        code = process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise LoadgenError(f"The measurement did not end within {_LIMIT_S:g} s; see {log}.") from None
    if code != EXIT_OK:
        raise LoadgenError(f"The measurement itself ended with exit code {code}; see {log}.")


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that is still there in good order, so that it stops what it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_text(path: Path, text: str, process: subprocess.Popen[str]) -> None:
    give_up_s = time.monotonic() + 30
    while text not in path.read_text(encoding="utf-8"):
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise LoadgenError("The run did not begin to measure.")
        time.sleep(0.02)


def enough(mutant: Mutant, codes: Sequence[int]) -> bool:
    """Whether the exit codes of a mutant's repetitions are good enough. Pure.

    Of a version against itself at most one run in sixty (rounded up) may be called slow; the others may be too noisy.
    A trial that came to no verdict is never good enough.
    """
    if any(code not in VERDICTS for code in codes):
        return False
    right = sum(code == mutant.expected for code in codes)
    if mutant.expected == EXIT_OK:
        alarms = sum(code in (EXIT_OVER_BUDGET, EXIT_REGRESSION, EXIT_WRONG_ANSWERS) for code in codes)
        if alarms > (0 if len(codes) == 1 else -(-len(codes) // 60)):
            return False
    return right >= mutant.least_share * len(codes) if len(codes) > 1 else right == 1


def carry_out(*, only: tuple[str, ...], stack: Path, out: Path, listed: bool, repeat: int, seed: int) -> int:
    """Carry out `mutants` and return its exit code: 0 when every code was right, else 1.

    Raises:
        LoadgenError: usage, for a name that is none.
    """
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in only if name not in known]:
        raise LoadgenError(f"There is no mutant {unknown[0]!r}; there are {', '.join(known)}.", EXIT_USAGE)
    chosen = [known[name] for name in only] or [mutant for mutant in MUTANTS if not mutant.on_request]
    if listed:
        for mutant in MUTANTS:
            click.echo(f"{mutant.name:16} {mutant.expected:3}  {mutant.what}")
        return EXIT_OK
    out, stack = out.resolve(), stack.resolve()  # the commands run in a folder of their own
    found: dict[str, list[int]] = {mutant.name: [] for mutant in chosen}
    for number in range(repeat):
        for mutant in chosen:
            begun_s = time.monotonic()
            folder = out / mutant.name / (str(number + 1) if repeat > 1 else "")
            try:
                code = run_trial(mutant, Trial(folder, stack, seed + 100_000 * number))
            except LoadgenError as error:
                click.echo(f"proof: {mutant.name}: {error}", err=True)
                code = EXIT_FAILED
            found[mutant.name].append(code)
            right = "ok" if code == mutant.expected else f"WRONG, must be {mutant.expected}"
            took_s = time.monotonic() - begun_s
            click.echo(f"{mutant.name:16} {mutant.what:56} exit code {code:2}  {right}  ({took_s:.0f} s)")
    good = all(enough(mutant, found[mutant.name]) for mutant in chosen)
    _sum_up(chosen, found, out, good)
    return EXIT_OK if good else EXIT_FAILED


def _sum_up(chosen: list[Mutant], found: dict[str, list[int]], out: Path, good: bool) -> None:
    rows = ["| mutant | | must be | runs | exit codes |", "|---|---|---:|---:|---|"]
    for mutant in chosen:
        codes = found[mutant.name]
        counted = ", ".join(f"{count} x {code}" for code, count in sorted(Counter(codes).items()))
        rows.append(f"| {mutant.name} | {mutant.what} | {mutant.expected} | {len(codes)} | {counted} |")
        if len(codes) > 1:
            click.echo(f"{mutant.name:16} {len(codes)} runs, exit codes {counted}")
    summary = {mutant.name: {"expected": mutant.expected, "codes": found[mutant.name]} for mutant in chosen}
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "mutants.json", json.dumps({"good": good, "mutants": summary}, indent=2).encode() + b"\n")
    if summary_path := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_summary(summary_path, "\n".join(["## Can the gate be trusted?", "", *rows, ""]))
    click.echo("mutants: " + ("every exit code is right" if good else "NOT every exit code is right"))

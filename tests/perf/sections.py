"""[I/O] The measurements, one function each. What is compared is measured in turns, so that noise meets both sides."""

from __future__ import annotations

import json
import random
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consumer.loading import default_threads
from tests.children import ROOT, clean_environment

from . import load, processes
from .figures import DirectRun, Overhead, Start, Window
from .stack import BenchError, Process, Stack

BATCHED, UNBATCHED = 32, 1
CONNECTIONS: Final = (1, 32, 128)
MODEL_CONNECTIONS: Final = 32
ECHO_SETTINGS: Final = {"HEADRACE_WINDOW_MS": "0"}
PHOTOS: Final = ("cat.jpg", "coffee.jpg", "rocket.jpg")

_DIRECT: Final = "examples/fast_producer.py"
_DIRECT_LINE: Final = re.compile(r"(\d+) answered, (\d+) failed, (\d+) unknown.*?(\d+(?:\.\d+)?) items/s")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    starts: int = 3
    echo_rounds: int = 5
    echo_window_s: float = 4.0
    model_rounds: int = 3
    model_window_s: float = 6.0
    warm_up_s: float = 1.0
    direct_rounds: int = 3
    direct_requests: int = 50_000


QUICK = Plan(
    starts=1, echo_rounds=2, echo_window_s=1.0, model_rounds=1, model_window_s=2.0, warm_up_s=0.5,
    direct_rounds=1, direct_requests=5_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bench:
    """What every section is given. `settings` are the stacks', `folder` is for files, `say` shows progress.

    `notes` collects what a reader must know; after `ends_s` (of `time.monotonic`) no further round begins.
    """

    plan: Plan
    settings: Mapping[str, str]
    folder: Path
    say: Callable[[str], None]
    notes: list[str]
    ends_s: float

    def rounds(self, count: int, what: str, limit_s: float) -> Iterator[int]:
        """Count up to `count`, but stop before the section or the run would take too long, and note what was left out.

        The first round is always measured.
        """
        began_s = time.monotonic()
        for number in range(count):
            now_s = time.monotonic()
            round_s = (now_s - began_s) / max(number, 1)
            if number and (now_s - began_s + round_s > limit_s or now_s + round_s > self.ends_s):
                self.notes.append(f"{what}: {number} of {count} rounds, because this machine is slow or busy.")
                return
            yield number + 1


def starts(bench: Bench) -> Iterator[Start]:
    """Start the default model's stack again and again."""
    for number in bench.rounds(bench.plan.starts, "starts", 45.0):
        with Stack(("imagenet",), bench.settings) as stack:
            start = Start(
                ready_s=stack.ready_s,
                front_end_bytes=processes.resident_bytes(stack.pids["front end"]),
                consumer_bytes=processes.resident_bytes(stack.consumer_pid("imagenet")),
            )
        bench.say(f"start {number} of {bench.plan.starts}: ready after {start.ready_s:.1f} s")
        yield start


def overheads(bench: Bench) -> Iterator[Overhead]:
    """Compare a consumer of the default model with a process that only loads and warms up the same model.

    Both with single requests: with batches of 32 the activations fill some hundred megabytes, and how much of that the
    allocator keeps differs by more from start to start than a consumer takes.
    """
    settings = {**bench.settings, "HEADRACE_MAX_BATCH": "1"}
    threads = int(settings.get("HEADRACE_TORCH_THREADS", "0")) or default_threads()
    argv = ["-m", "tests.perf.bare_model", "imagenet", str(threads)]
    for number in bench.rounds(bench.plan.starts, "memory", 60.0):
        with Process(argv, clean_environment(**settings)) as process:
            process.until("^Warm")
            bare_bytes = processes.resident_bytes(process.popen.pid)
        with Stack(("imagenet",), settings) as stack:
            consumer_bytes = processes.resident_bytes(stack.consumer_pid("imagenet"))
        told = f"{consumer_bytes / 1e6:.0f} MB resident, the model alone {bare_bytes / 1e6:.0f} MB"
        bench.say(f"memory {number} of {bench.plan.starts}: consumer {told}")
        yield Overhead(consumer_bytes=consumer_bytes, bare_bytes=bare_bytes)


@dataclass(slots=True)
class Echo:
    """What the echo section found."""

    windows: list[Window]
    direct: list[DirectRun]
    resident_bytes: dict[str, int]


def echo_settings(bench: Bench) -> dict[str, str]:
    """Return the settings of the echo model's stack."""
    return {**ECHO_SETTINGS, **bench.settings}


def echo(bench: Bench, generator: load.EchoLoad) -> Echo:
    """Measure the null model through REST and directly, and the web server without a queue, in turns.

    The stack runs without a batching window unless the environment sets one: a request alone would only wait for it.
    """
    with ExitStack() as held:
        stack = held.enter_context(Stack(("echo",), echo_settings(bench)))
        answer_file = bench.folder / "answer.json"
        answer_file.write_bytes(_checked_answer(stack))
        bare = held.enter_context(Process(["-m", "tests.perf.bare_server", str(answer_file)], clean_environment()))
        bare_url = bare.until(r"Serving on (http://\S+)")[1]
        turns: list[tuple[str, str, int, dict[str, int]]] = [
            ("echo", stack.url, connections, stack.pids) for connections in CONNECTIONS
        ]
        # Beside the window that it is compared with.
        turns.insert(2, ("bare", bare_url, MODEL_CONNECTIONS, {"server": bare.popen.pid}))
        found = Echo([], [], {})
        for subject, url, connections, _ in turns:
            generator.window(url, subject, connections, bench.plan.warm_up_s)
        for number in bench.rounds(bench.plan.echo_rounds, "echo", 95.0):
            for subject, url, connections, pids in turns:
                window = generator.window(url, subject, connections, bench.plan.echo_window_s, pids)
                bench.say(f"round {number} of {bench.plan.echo_rounds}: {_told(window)}")
                found.windows.append(window)
        found.direct += direct(bench, stack)
        found.resident_bytes = {
            "front end, after the echo load": processes.resident_bytes(stack.pids["front end"]),
            "echo consumer, after the load": processes.resident_bytes(stack.consumer_pid("echo")),
        }
    return found


def direct(bench: Bench, stack: Stack) -> Iterator[DirectRun]:
    """Run the direct producer's example on the echo model."""
    payload = bench.folder / "direct.bin"
    payload.write_bytes(load.ECHO_BODY)
    argv = [sys.executable, _DIRECT, str(payload), "--model", "echo", "--count", str(bench.plan.direct_requests)]
    for number in bench.rounds(bench.plan.direct_rounds, "direct producer", 25.0):
        run = parse_direct(load.run(argv, 90.0, HEADRACE_REDIS_URL=stack.redis_url))
        bench.say(f"direct producer {number} of {bench.plan.direct_rounds}: {run.rate_per_s:,.0f} items/s")
        yield run


def parse_direct(output: str) -> DirectRun:
    """Return the run that the example's last line describes. Pure.

    Raises:
        BenchError: there is no such line.
    """
    match = _DIRECT_LINE.search(output)
    if match is None:
        raise BenchError(f"{_DIRECT} printed no rate: {output.strip()[-300:] or 'nothing at all'}")
    return DirectRun(requests=int(match[1]), failed=int(match[2]) + int(match[3]), rate_per_s=float(match[4]))


def batching(bench: Bench) -> Iterator[Window]:
    """Measure two models with batches and with single requests, on two stacks that take turns."""
    raw = bench.folder / "pixels.bin"
    raw.write_bytes(random.Random(1).randbytes(224 * 224 * 3))
    photos = [ROOT / "examples" / "photos" / name for name in PHOTOS]
    for model, payloads in (("imagenet", photos), ("bench-mobilenet", [raw])):
        with ExitStack() as held:
            bench.say(f"{model}: starting one stack with batching and one without")
            stacks = {
                most: held.enter_context(Stack((model,), {**bench.settings, "HEADRACE_MAX_BATCH": str(most)}))
                for most in (BATCHED, UNBATCHED)
            }
            for number in bench.rounds(bench.plan.model_rounds, model, 60.0):
                for most, stack in stacks.items():
                    window = _model_window(bench, stack, model, payloads, most)
                    bench.say(f"round {number} of {bench.plan.model_rounds}: {_told(window)}")
                    yield window


def _model_window(bench: Bench, stack: Stack, model: str, payloads: Sequence[Path], most: int) -> Window:
    result = load.closed_loop(
        stack.url,
        model,
        payloads,
        MODEL_CONNECTIONS,
        bench.plan.model_window_s,
        bench.folder,
        warmup_s=bench.plan.warm_up_s,
        metrics_url=stack.metrics_url(model),
    )
    return load.from_run(result, model, MODEL_CONNECTIONS, most)


def _checked_answer(stack: Stack) -> bytes:
    """Ask once, and check that what comes back is what was sent: wrk looks at the status of an answer only."""
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(stack.predict_url("echo"), load.ECHO_BODY, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    if bytes(json.loads(answer)["outputs"][0]["data"]) != load.ECHO_BODY:
        raise BenchError("The echo model did not give back the bytes that it was sent.")
    return answer


def _told(window: Window) -> str:
    """One line of progress."""
    batch = {None: "", BATCHED: ", batches of up to 32", UNBATCHED: ", one by one"}[window.max_batch]
    p50, p99 = (f"{value:.2f} ms" if value is not None else "-" for value in (window.p50_ms, window.p99_ms))
    failed = f", {window.failed} FAILED" if window.failed else ""
    name = "without a queue" if window.subject == "bare" else window.subject
    return (
        f"{name}{batch}, {window.connections} connection{'s' * (window.connections > 1)}: "
        f"{window.rate_per_s:,.0f} requests/s, p50 {p50}, p99 {p99}{failed}"
    )

"""Start-up and memory: from the command to a real answer, and what a consumer holds beside the model itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from consumer.batch_threads import threads_of
from shared.settings import Settings
from tests.children import clean_environment
from tests.perf import processes
from tests.perf.context import Bench, Found
from tests.perf.report.figures import Figure
from tests.perf.stack import AS_CHOSEN, PLAIN_TORCH, Process, Stack
from tests.perf.starting import MODEL, Started, given

_ONE: Final = "`HEADRACE_RUNTIME=torch HEADRACE_MAX_BATCH=1 HEADRACE_CONSUMERS=1 python -m headrace up`"
_ALONE: Final = "`HEADRACE_MAX_BATCH=1 python -m tests.perf.programs.bare_model imagenet 1`"
_UP: Final = "`python -m headrace up`"
_LOOK_S: Final = 0.01


@dataclass(slots=True)
class Starts:
    """What several starts took, and what was resident then."""

    cold_s: list[float] = field(default_factory=list)
    cold_consumer: list[float] = field(default_factory=list)
    second_s: list[float] = field(default_factory=list)
    second_consumer: list[float] = field(default_factory=list)
    front: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)


def measure(bench: Bench) -> Found:
    """Start the default model's stack with nothing found and with all found; then compare consumers with models."""
    with Stack((MODEL,), {**bench.settings, **AS_CHOSEN}, bench.found):
        bench.say(f"the fastest runtime for {MODEL} is found")
    starts = Starts()
    count = bench.either(3, 1)
    for number in bench.rounds(count, "starts", 120.0):
        _cold(bench, number, starts)
        _second(bench, number, starts)
        bench.say(
            f"start {number} of {count}: {starts.cold_s[-1]:.1f} s, second start {starts.second_s[-1]:.1f} s with "
            f"{starts.second_consumer[-1] / 1e6:.0f} MB a consumer, {starts.restart_s[-1]:.1f} s after a crash"
        )
    return Found(settings=dict(bench.settings), figures=[*_figures(starts), *_overheads(bench, count)])


def _cold(bench: Bench, number: int, starts: Starts) -> None:
    with Started(bench.folder / f"cold-{number}", bench.settings) as stack:
        starts.cold_s.append(stack.first_answer_s)
        starts.cold_consumer.append(_largest(stack))


def _second(bench: Bench, number: int, starts: Starts) -> None:
    with Started(given(bench.folder / f"second-{number}", bench.found), bench.settings) as stack:
        starts.second_s.append(stack.first_answer_s)
        starts.second_consumer.append(_largest(stack))
        front = [child for child in processes.children(stack.up.popen.pid) if "-m producer_api" in child.command]
        starts.front.append(max(processes.resident_bytes(child.pid) for child in front))
        starts.restart_s.append(_restart_s(stack))


def _restart_s(stack: Started) -> float:
    """Kill all consumers, and time until a request is answered that was sent when they were gone.

    One that is sent while they die may still be claimed by them, and is then taken over when its lease has run out.
    """
    killed = stack.consumers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    killed_s = time.monotonic()
    while any(_is_there(pid) for pid in killed):
        time.sleep(_LOOK_S)
    return stack.client.first_answer() - killed_s


def _is_there(pid: int) -> bool:
    """Say whether a process was not waited for yet; until then its connections may be open."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _largest(stack: Started) -> float:
    return max(processes.resident_bytes(pid) for pid in stack.consumers())


def _figures(starts: Starts) -> list[Figure]:
    found = "what a search found is in the data folder"
    return [
        Figure(what="start to the first real answer, nothing cached", unit="s", values=starts.cold_s, command=_UP,
               limit=8),
        Figure(what=f"… second start: {found}", unit="s", values=starts.second_s, command=_UP, limit=4),
        Figure(what="… all consumers killed with SIGKILL, until the next answer", unit="s", values=starts.restart_s,
               command="`kill -9`", limit=4),
        Figure(what=f"`{MODEL}` consumer, resident, second start", unit="bytes", values=starts.second_consumer,
               command=_UP, limit=400e6),
        Figure(what="… nothing cached, in torch", unit="bytes", values=starts.cold_consumer, command=_UP),
        Figure(what="front end, resident when ready", unit="bytes", values=starts.front, command=_UP, limit=80e6),
    ]  # fmt: skip


def _overheads(bench: Bench, count: int) -> list[Figure]:
    """Compare a consumer of the default model with a process that only loads and warms up the same model, in torch.

    Both with single requests: with batches of 32 the activations fill some hundred megabytes, and how much of that the
    allocator keeps differs by more from start to start than a consumer takes.
    """
    settings = {**bench.settings, **PLAIN_TORCH, "HEADRACE_MAX_BATCH": "1", "HEADRACE_CONSUMERS": "1"}
    bare: list[float] = []
    ours: list[float] = []
    for number in bench.rounds(count, "memory", 60.0):
        bare.append(_bare(settings))
        with Stack((MODEL,), settings) as stack:
            ours.append(processes.resident_bytes(stack.consumer_pids(MODEL)[0]))
        bench.say(f"memory {number} of {count}: {ours[-1] / 1e6:.0f} MB, the model alone {bare[-1] / 1e6:.0f} MB")
    own = [a - b for a, b in zip(ours, bare, strict=True)]
    return [
        Figure(what="in torch, max batch 1", unit="bytes", values=ours, command=_ONE),
        Figure(what="… the same model alone", unit="bytes", values=bare, command=_ALONE),
        Figure(what="… consumer's own overhead: the difference", unit="bytes", values=own, command="both of the above",
               limit=60e6),
    ]  # fmt: skip


def _bare(settings: Mapping[str, str]) -> float:
    threads = threads_of(Settings.from_env(settings))
    with Process(
        ["-m", "tests.perf.programs.bare_model", MODEL, str(threads)], clean_environment(**settings)
    ) as process:
        process.until("^Warm")
        return processes.resident_bytes(process.popen.pid)

"""Start-up and memory: from the command to a real answer, and what a consumer holds beside the model itself."""

from __future__ import annotations

from consumer.threads import threads_of
from shared.settings import Settings
from tests.children import clean_environment
from tests.perf import processes
from tests.perf.context import Bench, Found
from tests.perf.figures import Figure
from tests.perf.stack import Process, Stack

_ONE = "`HEADRACE_MAX_BATCH=1 HEADRACE_CONSUMERS=1 python -m headrace up`"
_ALONE = "`HEADRACE_MAX_BATCH=1 python -m tests.perf.bare_model imagenet 1`"
_UP = "`python -m headrace up`"


def measure(bench: Bench) -> Found:
    """Start the default model's stack again and again, then compare a consumer with the model alone."""
    found = Found(settings=dict(bench.settings))
    ready_s: list[float] = []
    front: list[float] = []
    consumer: list[float] = []
    count = bench.either(3, 1)
    for number in bench.rounds(count, "starts", 45.0):
        with Stack(("imagenet",), bench.settings) as stack:
            ready_s.append(stack.ready_s)
            front.append(processes.resident_bytes(stack.pids["front end"]))
            consumer.append(processes.resident_bytes(stack.consumer_pids("imagenet")[0]))
        bench.say(f"start {number} of {count}: ready after {ready_s[-1]:.1f} s")
    found.figures += [
        Figure(what="start of the default model to a real answer", unit="s", values=ready_s, command=_UP, limit=15),
        Figure(what="front end, resident when ready", unit="bytes", values=front, command=_UP, limit=80e6),
        Figure(what="`imagenet` consumer, resident when ready", unit="bytes", values=consumer, command=_UP),
        *_overheads(bench, count),
    ]
    return found


def _overheads(bench: Bench, count: int) -> list[Figure]:
    """Compare a consumer of the default model with a process that only loads and warms up the same model.

    Both with single requests: with batches of 32 the activations fill some hundred megabytes, and how much of that the
    allocator keeps differs by more from start to start than a consumer takes.
    """
    settings = {**bench.settings, "HEADRACE_MAX_BATCH": "1", "HEADRACE_CONSUMERS": "1"}
    threads = int(settings.get("HEADRACE_TORCH_THREADS", "0")) or threads_of(Settings())
    bare: list[float] = []
    ours: list[float] = []
    for number in bench.rounds(count, "memory", 60.0):
        argv = ["-m", "tests.perf.bare_model", "imagenet", str(threads)]
        with Process(argv, clean_environment(**settings)) as process:
            process.until("^Warm")
            bare.append(processes.resident_bytes(process.popen.pid))
        with Stack(("imagenet",), settings) as stack:
            ours.append(processes.resident_bytes(stack.consumer_pids("imagenet")[0]))
        bench.say(f"memory {number} of {count}: {ours[-1] / 1e6:.0f} MB, the model alone {bare[-1] / 1e6:.0f} MB")
    own = [a - b for a, b in zip(ours, bare, strict=True)]
    return [
        Figure(what="… max batch 1", unit="bytes", values=ours, command=_ONE),
        Figure(what="the same model alone, max batch 1", unit="bytes", values=bare, command=_ALONE),
        Figure(
            what="consumer's own overhead beside torch: the difference",
            unit="bytes",
            values=own,
            command="both of the above",
            limit=60e6,
        ),
    ]

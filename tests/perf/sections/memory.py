"""Does anything grow? A million requests of the null model, and the memory of every process on the way."""

from __future__ import annotations

import time
from contextlib import ExitStack

import msgspec

from tests.children import clean_environment
from tests.perf import processes, scrape
from tests.perf.context import Bench, Found
from tests.perf.programs import direct
from tests.perf.programs.direct import Connection, command
from tests.perf.report.figures import Chart, Figure, Line, Panel
from tests.perf.report.maths import fit_line
from tests.perf.stack import BenchError, Process, Stack

EVERY = 50_000
CONNECTIONS = 32
SETTLED = 200_000
"""Before so many requests pools and buffers are still filling: they are drawn, but not fitted."""


def measure(bench: Bench) -> Found:
    """Look at every process each 50,000 answers, under load from both sides."""
    settings = {**bench.settings, "HEADRACE_APPENDONLY": "no"}
    count = bench.either(1_000_000, 400_000)
    with Stack(("echo",), settings) as stack:
        samples = _sample(bench, stack, count)
    found = Found(settings=settings)
    for name, (requests, sizes) in samples.items():
        settled = [(x, y) for x, y in zip(requests, sizes, strict=True) if x >= SETTLED]
        slope = fit_line([x for x, _ in settled], [y for _, y in settled]).slope
        found.figures.append(
            Figure(what=f"growth over a million requests, fitted: {name}", unit="bytes", values=[slope * 1e6],
                   command="`python -m tests.perf.bench --only memory`", limit=5e6)
        )  # fmt: skip
    found.charts.append(
        Chart(
            name="memory",
            alt="Memory of every process over a million echo requests",
            panels=[
                Panel(title="Memory over echo requests, MB", x_label="requests, thousands",
                      told="resident set of each process, and what Redis says it uses",
                      lines=[Line(label=name, x=[n / 1000 for n in x], y=[size / 1e6 for size in y])
                             for name, (x, y) in samples.items()])
            ],
        )
    )  # fmt: skip
    return found


Samples = dict[str, tuple[list[float], list[float]]]


def _sample(bench: Bench, stack: Stack, count: int) -> Samples:
    """Load by the direct producer and, where wrk is there, through REST at the same time."""
    job = direct.Job(url=stack.redis_url, model="echo", body=str(bench.echo().files[0]), count=10 * count, echoes=True,
                     in_flight=1000, warm_up_s=0.0)  # fmt: skip
    samples: Samples = {}
    redis, at = Connection(stack.redis_url), EVERY
    with ExitStack() as held:
        argv = ["-m", "tests.perf.programs.direct", msgspec.json.encode(job).decode()]
        producer = held.enter_context(Process(argv, clean_environment()))
        held.enter_context(bench.generator.endless(stack.url, bench.echo(), CONNECTIONS))
        deadline_s = time.monotonic() + bench.either(150.0, 60.0)
        while at <= count:
            if producer.popen.poll() is not None or time.monotonic() > deadline_s:
                raise BenchError(f"The load stopped, or took too long, after {at - EVERY:,} requests.")
            time.sleep(0.05)
            done = _ended(stack)
            if done < at:
                continue
            now = {f"{name}, resident": processes.resident_bytes(pid) for name, pid in stack.pids.items()}
            now["Redis, used_memory"] = _used_bytes(redis)
            for name, size in now.items():
                requests, sizes = samples.setdefault(name, ([], []))
                requests.append(done)
                sizes.append(float(size))
            bench.say(
                f"{done:,.0f} requests: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in now.items())
            )
            at += EVERY
    return samples


def _ended(stack: Stack) -> float:
    """Return how many requests the consumers have answered well."""
    return sum(
        value
        for url in stack.metrics_urls("echo")
        for (name, labels), value in scrape.read(url).items()
        if name == "headrace_items_total" and ("outcome", "ok") in labels
    )


def _used_bytes(redis: Connection) -> int:
    redis.send([command(b"INFO", b"memory")])
    text = redis.receive().decode()
    return next(int(line.partition(":")[2]) for line in text.splitlines() if line.startswith("used_memory:"))

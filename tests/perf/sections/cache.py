"""Repeated inputs of a model with a cache, beside the front end alone: what a hit costs over doing nothing at all."""

from __future__ import annotations

import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from shared import keys
from shared.redis.client import connect
from shared.state.cards import from_hash
from tests.children import clean_environment
from tests.perf.context import Bench, Found
from tests.perf.load import Payload, told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import PLAIN_TORCH, BenchError, Process, Stack
from tests.perf.windows import Window

CONNECTIONS: Final = 32
LEAST_RATIO: Final = 0.9


def measure(bench: Bench) -> Found:
    """Send the same small input, and the same photographs, to both in turns."""
    settings = {**bench.settings, **PLAIN_TORCH, "HEADRACE_APPENDONLY": "no", "HEADRACE_CACHE_S": "3600"}
    payloads = {"64 bytes to `echo`": bench.echo(), "photographs to `imagenet`": bench.photographs()}
    windows: dict[tuple[str, str], list[Window]] = {}
    with ExitStack() as held:
        stack = held.enter_context(Stack(("echo", "imagenet"), settings))
        alone = {name: held.enter_context(_alone(bench, stack, payload)) for name, payload in payloads.items()}
        turns = [
            (name, who, url, payload)
            for name, payload in payloads.items()
            for who, url in (("cache", stack.url), ("alone", alone[name].until(r"Serving on (http://\S+)")[1]))
        ]
        for _, _, url, payload in turns:
            bench.generator.closed(url, payload, CONNECTIONS, 1.0)
        count = bench.either(5, 1)
        for number in bench.rounds(count, "cache", 90.0):
            for name, who, url, payload in turns:
                window = bench.generator.closed(url, payload, CONNECTIONS, bench.either(3.0, 1.0))
                if window.failed:
                    raise BenchError(f"{window.failed} requests failed.")
                windows.setdefault((name, who), []).append(window)
                bench.say(f"round {number} of {count}: {name}, {who}: {told(window)}")
        _check_hits(stack)
    return Found(settings=settings, figures=[one for name in payloads for one in _figures(bench, name, windows)])


def _alone(bench: Bench, stack: Stack, payload: Payload) -> Process:
    """Start a front end that answers with what the stack's consumer has answered."""
    model, request_id = payload.model, f"bench-{payload.model}"
    body = payload.files[0].read_bytes()
    headers = {"Content-Type": payload.content_type}
    with urllib.request.urlopen(
        urllib.request.Request(f"{stack.predict_url(model)}?id={request_id}", body, headers), timeout=30
    ) as response:
        response.read()
    client: Any = connect(stack.redis_url)
    files = (bench.folder / f"{model}.card", bench.folder / f"{model}.reply")
    try:
        files[0].write_bytes(msgspec.json.encode(from_hash(client.hgetall(keys.card(model)))))
        files[1].write_bytes(client.lindex(keys.reply(model, keys.DEFAULT_LANE, request_id), 0))
    finally:
        client.close()
    return Process(_argv(model, files), clean_environment())


def _argv(model: str, files: tuple[Path, Path]) -> list[str]:
    return ["-m", "tests.perf.programs.front_end_alone", model, *map(str, files)]


def _check_hits(stack: Stack) -> None:
    """Nearly all of it must have been answered by the cache, or the comparison is about something else."""
    text = urllib.request.urlopen(f"{stack.url}/metrics", timeout=10).read().decode()
    for model in ("echo", "imagenet"):
        counts = {
            line.partition('result="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("headrace_cache_requests_total{") and f'model="{model}"' in line
        }
        if counts.get("hit", 0) < 0.99 * sum(counts.values()):
            raise BenchError(f"Only {counts.get('hit', 0):,.0f} of {sum(counts.values()):,.0f} requests were hits.")


def _figures(bench: Bench, name: str, windows: dict[tuple[str, str], list[Window]]) -> list[Figure]:
    cache, alone = ([one.rate_per_s for one in windows[name, who]] for who in ("cache", "alone"))
    payload = bench.echo() if "echo" in name else bench.photographs()
    command = bench.generator.command(payload, CONNECTIONS)
    other = "`python -m tests.perf.programs.front_end_alone MODEL CARD REPLY`"
    return [
        Figure(what=f"{name}, answered by the cache, {CONNECTIONS} connections", unit="per_s", values=cache,
               command=command, higher_is_better=True),
        Figure(what="… the front end alone", unit="per_s", values=alone, command=other, higher_is_better=True),
        Figure(what="… cache over that", unit="ratio", values=ratios(cache, alone), command="both, in turns",
               limit=LEAST_RATIO, higher_is_better=True),
    ]  # fmt: skip

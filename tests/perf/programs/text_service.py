"""`minilm` through the running stack beside the model alone: ``python -m tests.perf.programs.text_service``.

The same texts of log-normal lengths, each a request of its own: the model alone in this process (tokenising included),
over REST on 32 connections, and straight through the queue, 128 under way at a time. With ``--infinity PYTHON``, an
interpreter that has infinity-emb, its engine embeds the same texts with the same weights too, in a process of its own.
Rounds are interleaved. Texts a second are what counts on an idle machine; processor time per text, of all processes
that take part, is worth more on one that has other work.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from consumer.batching.parts import parts
from consumer.models.text import text_family
from consumer.models.text.samples import sample_lengths
from examples.fast_producer import FastProducer
from shared.model_config import load
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import Request
from tests.e2e.stack import Stack
from tests.embedded import EmbeddedServer

WORDS = ("the", "cat", "house", "water", "people", "music", "paper", "river", "night", "summer", "question", "market")
UNDER_WAY, CONNECTIONS, BATCH_TOKENS = 128, 32, 1024
TICKS = os.sysconf("SC_CLK_TCK")

INFINITY = """
import asyncio, json, os, sys
from infinity_emb import AsyncEngineArray, EngineArgs
import torch
torch.set_num_threads(int(sys.argv[2]))
engine = AsyncEngineArray.from_args([EngineArgs(model_name_or_path=sys.argv[1], engine="torch", device="cpu",
    dtype="float32", batch_size=32, bettertransformer=False, model_warmup=False)])[0]
async def main():
    async with engine:
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            texts = json.loads(line)
            found = await asyncio.gather(*(engine.embed(sentences=[text]) for text in texts))
            print(json.dumps([[float(value) for value in vectors[0][:8]] for vectors, _ in found]), flush=True)
asyncio.run(main())
"""


def sample_texts(count: int) -> list[str]:
    """Texts whose tokens are spread as those of real ones are; most of these words are one token each."""
    return [
        " ".join(WORDS[(number + place) % len(WORDS)] for place in range(max(1, tokens - 2)))
        for number, tokens in sample_lengths(count, 500)
    ]


def seconds_of(*processes: int) -> float:
    """Processor time that processes, and those that they have waited for, have used so far."""
    total = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


class Alone:
    """The model by itself: tokenising, packed batches in the order of arrival, answers."""

    def __init__(self, threads: int) -> None:
        import torch

        self._model: Any = text_family.build(load(Path("models.toml"))["minilm"], threads)
        self._model.load("cpu", "fp32")
        torch.set_num_threads(threads)
        self.processes = (os.getpid(),)

    def __call__(self, texts: Sequence[str]) -> None:
        """Embed."""
        requests = [Request(str(number), 1000, "text/plain", text.encode()) for number, text in enumerate(texts)]
        rows = [self._model.preprocess(request)[0] for request in requests]
        for part in parts([len(row.ids) for row in rows], BATCH_TOKENS):
            outputs = self._model.run(rows[part.start : part.stop])
            for place, output in zip(part, outputs, strict=True):
                self._model.postprocess([output], requests[place])


def rest(url: str, texts: Sequence[str]) -> None:
    """Send each text by itself over kept connections."""
    address = urlsplit(url)

    def some(share: Sequence[str]) -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
        for text in share:
            headers = {"Content-Type": "text/plain", "Accept": "application/octet-stream, application/json"}
            connection.request("POST", "/v1/models/minilm/predict?timeout_ms=60000", text.encode(), headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(body.decode())
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(some, [texts[place::CONNECTIONS] for place in range(CONNECTIONS)]))


def queue(client: redis.Redis, texts: Sequence[str]) -> None:
    """Send each text by itself, as a direct producer."""
    producer, sent = FastProducer(client, "minilm"), 0
    while sent < len(texts) or producer.waiting:
        while sent < len(texts) and len(producer.waiting) < UNDER_WAY:
            producer.send({"v": 1, "ttl_ms": 120_000, "ct": "text/plain", "body": texts[sent].encode()}, 1)
            sent += 1
        if any(not answer["ok"] for answer in producer.receive()):
            raise RuntimeError("A text was refused.")


@contextmanager
def infinity(python: str, weights: Path, threads: int) -> Iterator[tuple[int, Callable[[Sequence[str]], None]]]:
    """Start infinity's engine; gives its process and a function that embeds with it."""
    with subprocess.Popen(
        [python, "-c", INFINITY, str(weights), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "DO_NOT_TRACK": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready"):
                break

        def embed(texts: Sequence[str]) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(texts) + "\n")
            process.stdin.flush()
            if len(json.loads(process.stdout.readline())) != len(texts):
                raise RuntimeError("Vectors are missing.")

        yield process.pid, embed
        process.stdin.close()


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=128)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2, help="of the model, wherever it runs")
    options.add_argument("--infinity", metavar="PYTHON", help="an interpreter that has infinity-emb")
    chosen = options.parse_args()
    texts = sample_texts(chosen.texts)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedServer(ServerConfig(folder / "redis", free_port(), "no", 256)))
        settings = {"TORCH_THREADS": str(chosen.threads), "PRECISION": "fp32", "DATA_DIR": str(folder / "data")}
        running = stack.enter_context(Stack(server.url, Path("models.toml").absolute(), **settings))
        consumer = running.begin_consumer("minilm")
        front_end = running.start_front_end()
        consumer.until("Ready: ")
        running.wait("minilm")
        alone = Alone(chosen.threads)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        redis_pid = int(client.info("server")["process_id"])
        served = (consumer.popen.pid, redis_pid)
        ways: dict[str, tuple[tuple[int, ...], Callable[[Sequence[str]], None]]] = {
            "the model alone": (alone.processes, alone),
            "over REST": ((*served, front_end.popen.pid), lambda some: rest(running.url, some)),
            "through the queue": (served, lambda some: queue(client, some)),
        }
        if chosen.infinity:
            weights = alone._model._folder.path
            pid, embed = stack.enter_context(infinity(chosen.infinity, weights, chosen.threads))
            ways["infinity-emb, its engine alone"] = ((pid,), embed)
        took_s: dict[str, list[float]] = {name: [] for name in ways}
        used_s: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(chosen.rounds + 1):
            for name, (processes, run) in ways.items():
                begun_s, before_s = time.perf_counter(), seconds_of(*processes)
                run(texts if number else texts[:16])  # the first round warms up
                if number:
                    took_s[name].append(time.perf_counter() - begun_s)
                    used_s[name].append(seconds_of(*processes) - before_s)
    report(len(texts), took_s, used_s)


def report(count: int, took_s: dict[str, list[float]], used_s: dict[str, list[float]]) -> None:
    """Print the medians."""
    alone_s, alone_used_s = (statistics.median(times["the model alone"]) for times in (took_s, used_s))
    print("| | texts/s | of the model alone | processor ms per text | of the model alone |")
    print("|---|---|---|---|---|")
    for name, times_s in took_s.items():
        median_s, median_used_s = statistics.median(times_s), statistics.median(used_s[name])
        print(
            f"| {name} | {count / median_s:.1f} | {alone_s / median_s:.2f} | {1000 * median_used_s / count:.1f} | "
            f"{median_used_s / alone_used_s:.2f} |"
        )


if __name__ == "__main__":
    main()

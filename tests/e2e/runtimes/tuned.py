"""What the tests of tuning share: a stack whose consumers may tune, a load that knows the right answers, and a look at
the processes that search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from consumer.models.pictures.samples import pictures
from shared import keys
from shared.redis.client import connect
from tests.children import ROOT, clean_environment
from tests.e2e.stack import Process, Response, Stack, call
from tests.helpers import eventually

LIMIT_S = 400.0
"""A search takes only what nobody else wants: on a busy machine that is little."""

wait_until = partial(eventually, limit_s=LIMIT_S)

TUNED = "as it was tuned on this machine"
SEARCHES = "Trying torch in fp32"

SIDE = 64
"""Of the pictures that the network takes: what is tested are the ways of a search, and not its figures."""

SMALL = {"MAX_BATCH": "4", "RUNTIME": "onnxruntime", "PRECISION": "fp32"}
"""Settings of a search that is short: one runtime beside torch, and small batches."""


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with a small network of random weights under ``name``."""
    path = folder / "models.toml"
    path.write_text(
        f'[models.{name}]\nfamily = "torchvision"\narchitecture = "mobilenet_v3_small"\nweights = "random"\n'
        f'labels = "imagenet-1k"\npreprocessing = {{ resize = {SIDE}, crop = {SIDE} }}\n'
    )
    return path


class Site:
    """A front end, and consumers of one model that find, and put, what is tuned in one folder.

    Args:
        folder: of the models file, and of what is kept.
        settings: for every consumer.
    """

    def __init__(self, redis_url: str, folder: Path, model: str, **settings: str) -> None:
        self.redis_url, self.model, self.folder = redis_url, model, folder
        self.tuned = folder / "data" / "tuned"
        chosen = {**SMALL, "TUNE": "background", "LEASE_MS": "1500", **settings}
        self.settings = {**chosen, "DATA_DIR": str(folder / "data")}
        self.stack = Stack(redis_url, models_file(folder, model), **self.settings)

    def __enter__(self) -> Self:
        self.stack.__enter__()
        self.stack.start_front_end()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.__exit__()

    def begin(self, **settings: str) -> Process:
        """Begin a consumer and wait for nothing."""
        return self.stack.begin_consumer(self.model, **settings)

    def start(self, **settings: str) -> Process:
        """Start a consumer and wait until it serves."""
        process = self.begin(**settings)
        until(process, "Ready: ")
        return process

    def tune(self, processor: Mapping[str, str] = {}, settings: Mapping[str, str] = {}) -> str:
        """Search in the foreground, as `headrace tune` does; returns the log.

        Args:
            processor: variables that forbid libraries some of its instructions.
            settings: other ones than the site's.
        """
        done = subprocess.run(
            [sys.executable, "-m", "consumer.tune", "--model", self.model],
            cwd=ROOT,
            env={**self.environment(settings), **processor},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr

    def environment(self, settings: Mapping[str, str] = {}) -> dict[str, str]:
        """The environment of a consumer of this site."""
        chosen = {"TORCH_THREADS": "1", **self.settings, **settings}
        named = {f"HEADRACE_{name}": value for name, value in chosen.items()}
        return clean_environment(**named, HEADRACE_MODELS_FILE=str(self.folder / "models.toml"))

    def card(self) -> dict[str, Any]:
        """What the front end says of the model, once it knows it."""

        def known() -> dict[str, Any] | None:
            answer = call(f"{self.stack.url}/v1/models/{self.model}")
            return answer.body if answer.status == 200 and answer.body.get("tuning") else None

        card = wait_until(known)
        assert card is not None
        return card

    def workers(self) -> list[dict[str, str]]:
        """What each consumer publishes of itself."""
        with connect(self.redis_url) as redis:
            names = [name.decode() for name in redis.zrange(keys.workers(self.model), 0, -1)]
            found = [redis.hgetall(keys.worker(self.model, name)) for name in names]
        return [{key.decode(): value.decode() for key, value in fields.items()} for fields in found if fields]

    def runs(self) -> Counter[tuple[str, str, str]]:
        """Runtime, precision and preferred batch of the consumers."""
        return Counter((one["runtime"], one["precision"], one["preferred"]) for one in self.workers())

    def entries(self) -> list[Path]:
        """Documents of findings that are kept."""
        return sorted(self.tuned.glob("*/entry.json"))

    def are_whole(self) -> bool:
        """Say whether everything that is kept could be used: what a search had just finished, say."""
        findings = [json.loads(entry.read_bytes())["finding"] for entry in self.entries()]
        return all(finding["runtime"] == self.settings["RUNTIME"] for finding in findings)

    def half_made(self) -> list[str]:
        """What is left of searches that came to nothing."""
        return sorted(path.name for path in self.tuned.glob(".*"))


def until(process: Process, text: str) -> str:
    """Wait for a line that contains ``text``, within a limit, and return it."""

    def found() -> str:
        assert process.popen.poll() is None or any(text in line for line in process.lines), process.text()
        return next((line for line in process.lines if text in line), "")

    try:
        return wait_until(found)
    except AssertionError:
        raise AssertionError(f"no line with {text!r} in:\n{process.text()}") from None


def searching(consumer: int) -> list[int]:
    """Process ids of the searches that a process has started."""
    found = []
    for tasks in Path(f"/proc/{consumer}/task").glob("*/children"):
        try:
            found += [int(pid) for pid in tasks.read_text().split()]
        except OSError:
            continue
    return [pid for pid in found if b"consumer.tune" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def search_of(consumer: Process) -> int:
    """Wait until a search that a consumer has started is under way; returns its process id."""
    until(consumer, SEARCHES)
    [pid] = searching(consumer.popen.pid)
    return pid


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def end_search(pid: int, number: signal.Signals) -> None:
    """Send a signal to a search and wait for its end."""
    os.kill(pid, number)
    wait_until(lambda: is_gone(pid))


class Load:
    """Pictures without a pause from a few threads; each is answered, and like the first time, or the test fails.

    Args:
        pause_s: between an answer and the next request of the same thread.
    """

    def __init__(self, site: Site, threads: int = 2, pause_s: float = 0.1) -> None:
        self._site, self._threads, self._pause_s = site, threads, pause_s
        self._over = threading.Event()
        self._bodies = [picture.tobytes() for picture in pictures(4, SIDE, SIDE)]
        self.answers: list[tuple[float, int, int, str]] = []

    def _send(self, number: int) -> None:
        count = number
        while not self._over.is_set():
            which = count % len(self._bodies)
            answer = self._site.stack.predict(self._site.model, self._bodies[which], query="?timeout_ms=60000&top_k=1")
            label = answer.body["predictions"][0]["label"] if answer.status == 200 else str(answer.body)
            self.answers.append((time.monotonic(), which, answer.status, label))
            count += 1
            self._over.wait(self._pause_s)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Send while the block lasts; afterwards every answer must be the right one."""
        self._site.stack.wait(self._site.model)
        with ThreadPoolExecutor(self._threads) as pool:
            futures = [pool.submit(self._send, number) for number in range(self._threads)]
            try:
                yield self
            finally:
                self._over.set()
            for future in futures:
                future.result()
        assert [answer for answer in self.answers if answer[2] != 200] == []
        labels = {(which, label) for _, which, _, label in self.answers}
        assert len(labels) == len({which for which, _ in labels}), labels

    def one(self) -> Response:
        """Send one request and wait for its answer."""
        return self._site.stack.predict(self._site.model, self._bodies[0], query="?timeout_ms=60000")

    def some_more(self) -> None:
        """Wait until requests that are sent from now on have been answered."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) > before + 2 * self._threads)


def nothing_is_left(site: Site) -> bool:
    """Say whether no request waits and none is under way."""
    work = keys.work(site.model, keys.DEFAULT_LANE)
    with connect(site.redis_url) as redis:
        return bool((redis.xlen(work), redis.xpending(work, keys.GROUP)["pending"]) == (0, 0))

"""A stack of real processes for the end-to-end tests: consumers and a front end on a given Redis."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loadgen.load.waiting import wait_for
from loadgen.scenario import api_key, parse_target
from shared.redis.embedded import free_port
from tests.children import ROOT, Output, clean_environment


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: ``body`` is the parsed JSON."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


def call(url: str, data: bytes | None = None, content_type: str = "", timeout_s: float = 30.0) -> Response:
    """Send one request (POST when there are data) and return the response, errors included."""
    headers = {"Content-Type": content_type} if content_type else {}
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return Response(answer.status, dict(answer.headers), json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, dict(error.headers), json.loads(error.read()))


class Process:
    """One child of the stack; its output is collected by a thread, so that the pipe never fills."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], root: Path = ROOT) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, *argv],
            cwd=root,
            env=clean_environment(PYTHONPATH=str(root), **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.popen.stdout is not None
        self._output = Output(self.popen.stdout)

    @property
    def lines(self) -> list[str]:
        """What it has written so far."""
        return list(self._output.lines)

    def until(self, text: str) -> str:
        """Wait for a line that contains ``text`` and return it; fails when the process ends first."""
        line = self._output.first(lambda line: line if text in line else None)
        assert line is not None, "\n".join(self._output.lines)
        return line

    def output(self) -> str:
        """What it has printed so far; all of it once it has ended and :meth:`terminate` has waited for that."""
        self._output.close()
        return "\n".join(self._output.lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGSTOP it does not run any more.

        A signal is only noted at first. On a busy machine the threads of a process go on for a while, and a consumer
        answers what came after it.
        """
        self.popen.send_signal(number)
        if number is signal.SIGSTOP:
            os.waitpid(self.popen.pid, os.WUNTRACED)

    def text(self) -> str:
        """Everything that was printed so far."""
        return "\n".join(self._output.lines)

    def terminate(self) -> int:
        """End in order; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.popen.wait()

    def close(self) -> None:
        """End whatever is left, without ceremony."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        self._output.close()


class Stack:
    """Front end and consumers on one Redis; models come from a file of its own.

    Attributes:
        root: the checkout that they run from.
    """

    root = ROOT

    def __init__(self, redis_url: str, models_file: Path, **settings: str) -> None:
        self._environment = {
            "HEADRACE_REDIS_URL": redis_url,
            "HEADRACE_MODELS_FILE": str(models_file),
            "HEADRACE_METRICS_PORT": "0",
            "HEADRACE_TORCH_THREADS": "1",
            "HEADRACE_ALLOWED_HOSTS": "test",
            **{f"HEADRACE_{name}": value for name, value in settings.items()},
        }
        self._processes: list[Process] = []
        self.url = ""

    def start_front_end(self, module: str = "producer_api", **settings: str) -> Process:
        """Start ``python -m producer_api`` and wait until it serves; ``url`` is the address of the latest."""
        return self.serve_on(free_port(), module, **settings)

    def serve_on(self, port: int, module: str = "producer_api", **settings: str) -> Process:
        """The same on a certain port."""
        self.url = f"http://127.0.0.1:{port}"
        process = self.begin_front_end(port, module, **settings)
        process.until("Serving on")
        return process

    def begin_front_end(self, port: int, module: str = "producer_api", **settings: str) -> Process:
        """Start ``python -m producer_api`` and wait for nothing."""
        own = {f"HEADRACE_{name}": value for name, value in settings.items()}
        return self._start(["-m", module], {"HEADRACE_PORT": str(port), **own})

    def start_consumer(self, model: str, module: str = "consumer", **settings: str) -> Process:
        """Start ``python -m consumer`` and wait until it is ready."""
        process = self.begin_consumer(model, module, **settings)
        process.until("Ready: ")
        return process

    def begin_consumer(self, model: str, module: str = "consumer", **settings: str) -> Process:
        """Start ``python -m consumer`` and wait for nothing."""
        own = {f"HEADRACE_{name}": value for name, value in settings.items()}
        return self._start(["-m", module, "--model", model], own)

    def _start(self, argv: list[str], own: Mapping[str, str]) -> Process:
        process = Process(argv, {**self._environment, **own}, self.root)
        self._processes.append(process)
        return process

    @property
    def latest(self) -> Process:
        """The process started last."""
        return self._processes[-1]

    def wait(self, model: str) -> None:
        """Wait until one real inference succeeds, as ``loadgen wait`` does."""
        wait_for(parse_target(self.url, api_key(os.environ)), (model,), None, 30.0, say=print)

    def predict(
        self, model: str, data: bytes, content_type: str = "application/octet-stream", query: str = ""
    ) -> Response:
        """POST to a model."""
        return call(f"{self.url}/v1/models/{model}/predict{query}", data, content_type)

    def metrics(self, process: Process) -> str:
        """The text of a consumer's ``/metrics``."""
        address = process.until("metrics at ").rpartition("metrics at ")[2].rstrip(".")
        with urllib.request.urlopen(address, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def ended(self, process: Process, outcome: str) -> float:
        """How many requests a consumer counts that ended so, whatever their model."""
        lines = [line for line in self.metrics(process).splitlines() if line.startswith("headrace_items_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if f'outcome="{outcome}"' in line)

    def close_all(self) -> None:
        """End every process, without ceremony."""
        for process in reversed(self._processes):
            with contextlib.suppress(OSError):
                process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_all()


@contextlib.contextmanager
def shared_front_end(redis_url: str, folder: Path, **settings: str) -> Iterator[str]:
    """One front end for the models of all tests of a module; gives its address, which is a stack's ``url``."""
    with Stack(redis_url, echo_models(folder), **settings) as stack:
        stack.start_front_end()
        yield stack.url


def echo_models(folder: Path, *names: str) -> Path:
    """Write a models file whose models all echo."""
    path = folder / "models.toml"
    path.write_text("".join(f'[models.{name}]\nfamily = "echo"\n' for name in names))
    return path

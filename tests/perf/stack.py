"""[I/O] What is measured: `python -m headrace up` on free ports, and small servers to compare it with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from shared.redis.embedded import dies_with_parent
from shared.settings import Settings, SettingsError
from tests.children import ROOT, Output, clean_environment
from tests.perf import processes

WORK: Final = ROOT / ".headrace" / "bench"
PASSED_ON: Final = ("APPENDONLY", "DEVICE", "PRECISION", "TORCH_THREADS", "DECODE_THREADS", "WINDOW_MS")
"""Settings that the reader's environment may choose; the others are the bench's own or stay at their defaults."""

_START_LIMIT_S: Final = 300.0  # with a search for the fastest runtime before it serves
_STOP_LIMIT_S: Final = 30.0


class BenchError(Exception):
    """Something could not be measured; one sentence."""


def chosen_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the reader's settings that the measured stacks run with, by their full names."""
    names = [f"HEADRACE_{name}" for name in PASSED_ON]
    return {"HEADRACE_APPENDONLY": "no", **{name: environment[name] for name in names if name in environment}}


def knows(name: str, value: str) -> bool:
    """Say whether this version has a setting with such a value."""
    try:
        Settings.from_env({name: value})
    except SettingsError:
        return False
    return True


ON_EVERY_CORE: Final = {"HEADRACE_CONSUMERS": "0"}
"""As many consumers as the machine has cores, with a thread each."""

PLAIN_TORCH: Final = {"HEADRACE_RUNTIME": "torch", "HEADRACE_PRECISION": "fp32", "HEADRACE_TUNE": "off"}
"""The network as its authors wrote it."""

AS_CHOSEN: Final = {"HEADRACE_TUNE": "first"}
"""What Headrace finds to be fastest on this machine, found before it is measured."""


class Process:
    """A Python program in a session of its own. A thread keeps its output, so that the pipe never fills."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], executable: str = sys.executable) -> None:
        self._name = " ".join(argv[:3])
        self.started_s = time.monotonic()
        self.popen = subprocess.Popen(
            [executable, *argv],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=dies_with_parent(),
        )
        assert self.popen.stdout is not None
        self._output = Output(self.popen.stdout)

    def until(self, pattern: str, limit_s: float = _START_LIMIT_S) -> re.Match[str]:
        """Wait for a line that matches and return the match.

        Raises:
            BenchError: the process ended first, or the time is up.
        """
        match = self._output.first(lambda line: re.search(pattern, line), limit_s)
        if match is None:
            raise self._silent()
        return match

    def _silent(self) -> BenchError:
        last = "\n    ".join(self._output.lines[-8:])
        return BenchError(f"python {self._name} did not say what was expected. Its last lines:\n    {last}")

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return list(self._output.lines)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def after(self, count: int, pattern: str, limit_s: float) -> re.Match[str]:
        """Wait for a line that matches, among those after the first `count`.

        Raises:
            BenchError: the process ended first, or the time is up.
        """
        match = self._output.first(lambda line: re.search(pattern, line), limit_s, count)
        if match is None:
            raise self._silent()
        return match

    def close(self) -> None:
        """Ask it to end, and end it after a while; returns once it is gone."""
        try:
            if self.popen.poll() is None:
                self.popen.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.popen.wait(_STOP_LIMIT_S)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            self._output.close()
            assert self.popen.stdin is not None
            self.popen.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stack:
    """A context manager: the whole of Headrace for the given models, on free ports, with a data folder of its own.

    Args:
        found: a folder in which what searches found is kept from one stack to the next; None to begin with nothing.

    Attributes:
        ready_s: time from the start of the command until a real inference had come back from every model.
    """

    def __init__(self, models: tuple[str, ...], settings: Mapping[str, str], found: Path | None = None) -> None:
        self._models, self._settings, self._found = models, settings, found

    def __enter__(self) -> Self:
        WORK.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="stack-", dir=WORK))
        tuned = self._folder / "tuned"
        if self._found is not None and self._found.exists():
            shutil.copytree(self._found, tuned)
        own = {
            "HEADRACE_DATA_DIR": str(self._folder),
            "HEADRACE_MODELS": ",".join(self._models),
            **dict.fromkeys(("HEADRACE_PORT", "HEADRACE_REDIS_PORT", "HEADRACE_METRICS_PORT"), "0"),
        }
        self._up = Process(["-m", "headrace", "up"], clean_environment(**self._settings, **own))
        try:
            self._up.until(r"Headrace is ready")
            self.ready_s = time.monotonic() - self._up.started_s
            self.url = self._up.until(r"API +(http://\S+)")[1]
            self.redis_url = self._up.until(r"Redis +(redis://\S+)")[1]
            self._up.until("Ctrl-C stops everything")
            self._find_parts()
        except BaseException:
            self.__exit__()
            raise
        if self._found is not None and tuned.exists():
            shutil.copytree(tuned, self._found, dirs_exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._up.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def data(self) -> dict[str, str]:
        """The setting that names the stack's data folder, where consumers keep what they found out about a model."""
        return {"HEADRACE_DATA_DIR": str(self._folder)}

    def predict_url(self, model: str) -> str:
        """Return the address that answers inferences."""
        return f"{self.url}/v1/models/{model}/predict"

    def grpc_target(self) -> str:
        """Return the host and port for gRPC, for which the settings must name a port."""
        return self._up.until(r"gRPC +(\S+:\d+)")[1]

    def metrics_urls(self, model: str) -> list[str]:
        """Return the addresses of the metrics of the model's consumers.

        Their ports follow one another; of many consumers `headrace up` prints the first one's only.
        """
        first = self._up.until(rf"(http://\S+):(\d+)/metrics \(consumer {re.escape(model)}(?: \d+)?\)")
        return [f"{first[1]}:{int(first[2]) + number}" for number in range(len(self.consumer_pids(model)))]

    def consumer_pids(self, model: str) -> list[int]:
        """Return the process ids of the model's consumers."""
        pattern = re.compile(rf"consumer {re.escape(model)}(?: \d+)?")
        return [pid for name, pid in self.pids.items() if pattern.fullmatch(name)]

    def _find_parts(self) -> None:
        self.pids: dict[str, int] = {}
        for child in sorted(processes.children(self._up.popen.pid), key=lambda child: child.pid):
            if "-m producer_api" in child.command:
                self._name("front end", child.pid)
            elif "valkey-server" in child.command or "redis-server" in child.command:
                self.pids["Redis"] = child.pid
            elif match := re.search(r"-m consumer --model (\S+)", child.command):
                self._name(f"consumer {match[1]}", child.pid)
        expected = {"front end", "Redis", *(f"consumer {model}" for model in self._models)}
        if missing := expected - self.pids.keys():
            raise BenchError(f"No process was found for {', '.join(sorted(missing))} below `headrace up`.")

    def _name(self, name: str, pid: int) -> None:
        before = sum(other == name or other.startswith(f"{name} ") for other in self.pids)
        self.pids[f"{name} {before + 1}" if before else name] = pid

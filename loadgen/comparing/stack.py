"""[I/O] Starts a whole Headrace from a checkout, as `python -m headrace up` does, and finds its addresses.

Only what that command prints is known of it, so another commit's stack is started in the same way.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from loadgen.errors import LoadgenError
from loadgen.scenario import parse_target

from .settling import settle

_START_S: Final = 300.0
_STOP_S: Final = 30.0
_SETTLE_S: Final = 240.0
_SET_PARENT_DEATH_SIGNAL: Final = 1
_COMMIT: Final = "GIT_COMMIT"
_NOT_NOTES: Final = shutil.ignore_patterns("redis", "*.lock", "*.part")
"""What is in a stack's data folder besides its measurements."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that has answered a real inference. `metrics_urls` are those of consumers, and of several front ends."""

    url: str
    metrics_urls: tuple[str, ...]
    pid: int


class _Output:
    """Keeps what a process prints and hands it on to a log, so that its pipe never fills."""

    def __init__(self, pipe: IO[str], log: IO[str]) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._collect, args=(pipe, log), daemon=True)
        self._thread.start()

    def until(self, text: str, limit_s: float) -> bool:
        """Wait for a line with this text; False when the output ended first or the time is out."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or any(text in line for line in self.lines), limit_s)
            return any(text in line for line in self.lines)

    def close(self) -> None:
        """Wait for the end of the output."""
        self._thread.join()

    def _collect(self, pipe: IO[str], log: IO[str]) -> None:
        try:
            for line in pipe:
                with suppress(OSError, ValueError):  # a full disk must not stop the stack, nor what its log cannot say
                    log.write(line)
                    log.flush()
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        finally:  # a thread that waits for a line must learn that none will come
            with self._changed:
                self._ended = True
                self._changed.notify_all()


@contextmanager
def running_stack(
    folder: Path,
    model: str,
    settings: Mapping[str, str],
    log_path: Path,
    notes: Path | None = None,
) -> Iterator[RunningStack]:
    """Run the stack of the checkout in `folder` while the block runs: on free ports, with a Redis of its own.

    Args:
        settings: further `HEADRACE_` variables, by their full names.
        log_path: where its output goes.
        notes: a folder with what an earlier stack found out at its start (the best batch size, how to run the model
            fastest). Such measurements differ a little from start to start, and two versions would differ by luck. A
            stack that finds it takes over what is there, one that does not leaves there what it found out.

    Raises:
        LoadgenError: it did not get ready; the sentence has its last line.
    """
    data = Path(tempfile.mkdtemp(prefix="headrace-gate-"))
    try:
        known = notes is not None and notes.is_dir()
        with _starting(folder):
            if notes is not None and known:
                shutil.copytree(notes, data, dirs_exist_ok=True)
            log = open(log_path, "a", encoding="utf-8")  # noqa: SIM115, it is closed below
        with log:
            with _starting(folder):
                process = _start(folder, _environment(folder, model, settings, data))
            assert process.stdout is not None
            output = _Output(process.stdout, log)
            try:
                if not output.until("Ctrl-C stops everything", _START_S):
                    last = next((line for line in reversed(output.lines) if line.strip()), "it printed nothing")
                    raise LoadgenError(f"The stack of {folder} did not get ready: {last.strip()} (see {log_path}).")
                running = _addresses(output.lines, process.pid)
                settle(parse_target(running.url), model, _SETTLE_S)
                if notes is not None and not known:
                    with _starting(folder):
                        shutil.copytree(data, notes, ignore=_NOT_NOTES)
                yield running
            finally:
                _stop(process)
                output.close()
                process.stdout.close()
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Say in one sentence what was wrong with a file or a process that a stack's start needs."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, shutil.Error):  # it lists source, destination and reason of all that was not copied
            reason = str(error.args[0][0][2])
        raise LoadgenError(f"The stack of {folder} cannot be started: {reason}.") from error


def _environment(folder: Path, model: str, settings: Mapping[str, str], data: Path) -> dict[str, str]:
    # A stack reports its commit; every stack would report a GIT_COMMIT from outside, whatever it runs.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_") and name != _COMMIT}
    free = dict.fromkeys(("HEADRACE_PORT", "HEADRACE_REDIS_PORT", "HEADRACE_METRICS_PORT"), "0")
    own = {"HEADRACE_DATA_DIR": str(data), "HEADRACE_MODELS": model, "PYTHONUNBUFFERED": "1", **free}
    return {**kept, "PYTHONPATH": str(folder.resolve()), **own, **settings}


def _start(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace", "up"],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches the generator, which then stops the stack in good order
        preexec_fn=_ends_with_us(),
    )


def _ends_with_us() -> Callable[[], None] | None:
    """Return what has the kernel end the child (which then ends its own) when this process dies without a word."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)

    return arrange


def _addresses(lines: list[str], pid: int) -> RunningStack:
    """Read the banner. Of many consumers it shows the first one's metrics and the last one's port."""
    text = "\n".join(lines)
    url = re.search(r"API +(http://\S+)", text)
    if url is None:
        raise LoadgenError("The stack printed no address.")
    consumers = [(host, int(port)) for host, port in re.findall(r"(http://\S+):(\d+)/metrics \(consumer ", text)]
    last = re.search(r"\.\.\. to port (\d+), one for each of the \d+ consumers", text)
    if consumers and last is not None:
        host, first = consumers[0]
        consumers = [(host, port) for port in range(first, int(last[1]) + 1)]
    if not consumers:  # without them the gate would not notice a consumer that dies
        raise LoadgenError("The stack printed no address of a consumer's metrics.")
    # One front end alone shows its own at the stack's address.
    front_ends = [(host, int(port)) for host, port in re.findall(r"(http://\S+):(\d+)/metrics \(producer_api ", text)]
    last = re.search(r"\.\.\. to port (\d+), one for each of the \d+ front ends", text)
    if front_ends and last is not None:
        host, first = front_ends[0]
        front_ends = [(host, port) for port in range(first, int(last[1]) + 1)]
    return RunningStack(url[1], tuple(f"{host}:{port}" for host, port in (*consumers, *front_ends)), pid)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""The process that searches, seen from the consumer that starts it [I/O]."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.modules import full_name
from shared.process.exit_codes import TRY_LATER
from shared.settings import Settings

log = logging.getLogger(__name__)

END_S = 2.0
"""Time for the process to end by itself after SIGTERM."""

PATIENCE, PATIENCE_S = 10, 60.0
"""A consumer that waits for a search gives up after so many times its budget and so many seconds more: something hangs,
or others take all of the processor."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is to be searched for.

    Attributes:
        precision: the requested one.
        threads: of the consumer; the process that searches must not work out another number.
        place: what the result is kept under.
        but_not: stamp of an entry that is there and cannot be used; None for none.
    """

    model: str
    precision: str
    threads: int
    place: Path
    but_not: int | None = None

    def command(self) -> list[str]:
        """Return the command line of the process, which ends with this one."""
        argv = [sys.executable, "-m", full_name("consumer.tune"), "--model", self.model, "--precision", self.precision]
        argv += ["--parent", str(os.getpid())]
        return argv if self.but_not is None else [*argv, "--but-not", str(self.but_not)]

    def environment(self) -> Mapping[str, str]:
        """Return its environment."""
        return {**os.environ, "HEADRACE_TORCH_THREADS": str(self.threads)}


def tune_now(search_request: SearchRequest, settings: Settings) -> None:
    """Search, or wait for a process that does, and return when it is over; errors are in the log."""
    budget_s = settings.tune_budget_s
    log.info(
        "Looking for the fastest runtime for %s before it serves; at most %g s of processor time.",
        search_request.model,
        budget_s,
    )
    try:
        process = _start(search_request, [])
    except OSError as error:
        _told(error)
        return
    try:
        status = process.wait(PATIENCE * budget_s + PATIENCE_S)
        if status:
            _told(status)
    except subprocess.TimeoutExpired:
        log.warning("The search for the fastest runtime takes too long and is given up; torch serves.")
    finally:
        _end(process)


class Tuner:
    """Searches beside the consumer, at most once for each place: what failed once may fail for ever.

    Args:
        start: makes a thread that runs a function.
        cores: where the process may run; none for where this one does.

    Attributes:
        failure: one sentence once a search has failed and none will follow; empty otherwise.
    """

    def __init__(self, start: Callable[[Callable[[], None]], None], cores: frozenset[int]) -> None:
        self._start, self._cores = start, cores
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._tried: set[Path] = set()
        self._is_over = False
        self.failure = ""

    @property
    def is_searching(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    def was_tried(self, search_request: SearchRequest) -> bool:
        """Say whether nothing would be begun, because this was tried before."""
        return search_request.place in self._tried

    def begin(self, search_request: SearchRequest) -> None:
        """Start the process, unless one runs or this was tried before."""
        with self._lock:
            if self._is_over or self._process is not None or search_request.place in self._tried:
                return
            self._tried.add(search_request.place)
            try:
                process = self._process = _start(search_request, self._background())
            except OSError as error:
                self.failure = _told(error)
                return
        self._start(lambda: self._wait(process, search_request))

    def _background(self) -> list[str]:
        return ["--background", *(["--cores", ",".join(map(str, sorted(self._cores)))] if self._cores else [])]

    def _wait(self, process: subprocess.Popen[bytes], search_request: SearchRequest) -> None:
        status = process.wait()
        with self._lock:
            self._process = None
            if status == TRY_LATER:
                self._tried.discard(search_request.place)
            elif status and not self._is_over:
                self.failure = _told(status)

    def end(self) -> None:
        """Let no search go on, because the consumer stops."""
        with self._lock:
            self._is_over = True
            process = self._process
        if process is not None:
            _end(process)


def _start(search_request: SearchRequest, options: Sequence[str]) -> subprocess.Popen[bytes]:
    argv = [*search_request.command(), *options]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=search_request.environment())


def _told(trouble: int | OSError) -> str:
    """Log that a search came to nothing, and return the sentence.

    Args:
        trouble: the status of the process, negative for a signal, or why there was none.
    """
    if isinstance(trouble, OSError):
        said = f"The search for the fastest runtime cannot be started: {trouble.strerror}."
    else:
        how = f"with status {trouble}" if trouble > 0 else f"by signal {-trouble}"
        said = f"The search for the fastest runtime ended {how}; the log says why."
    said = f"{said} torch serves, and the next start searches again."
    log.warning("%s", said)
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)

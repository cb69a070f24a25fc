"""The process that searches, seen from the consumer that starts it [I/O]."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

from shared.settings import Settings

log = logging.getLogger(__name__)

END_S = 2.0
"""Time for the process to end by itself when it is asked to."""


def command(model: str, precision: str, background: bool) -> list[str]:
    """Return the command line that searches for the fastest runtime of ``model``."""
    argv = [sys.executable, "-m", "consumer.tune", "--model", model, "--precision", precision]
    return [*argv, "--background"] if background else argv


def tune_now(model: str, precision: str, settings: Settings) -> None:
    """Search, or wait for who does, and return when it is over; what goes wrong is in the log."""
    budget_s = settings.tune_budget_s
    log.info(
        "Looking for the fastest runtime for %s before it serves; at most %g s of processor time.", model, budget_s
    )
    argv = command(model, precision, background=False)
    status = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL).returncode
    if status:
        log.warning("The search for the fastest runtime ended with status %d.", status)


class Tuner:
    """Searches beside the consumer, once.

    Args:
        start: makes a thread that runs a function.
    """

    def __init__(self, model: str, start: Callable[[Callable[[], None]], None]) -> None:
        self._model, self._start = model, start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False

    def begin(self, precision: str) -> None:
        """Start the process; nothing happens while one runs."""
        with self._lock:
            if self._is_over or self._process is not None:
                return
            try:
                argv = command(self._model, precision, background=True)
                self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
            except OSError as error:
                log.warning("The search for the fastest runtime cannot be started: %s", error)
                return
        self._start(self._wait)

    def _wait(self) -> None:
        process = self._process
        assert process is not None
        status = process.wait()
        with self._lock:
            self._process = None
            if status and not self._is_over:
                log.warning("The search for the fastest runtime ended with status %d; torch goes on serving.", status)

    def end(self) -> None:
        """Let no search go on, because the consumer stops."""
        with self._lock:
            self._is_over = True
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def has_lost_parent(parent: int) -> bool:
    """Say whether the process that started this one is gone."""
    return os.getppid() != parent

"""What tests and benchmarks that start processes share: a clean environment, and output that never fills its pipe."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[1]


def ask_ourselves_directly() -> None:
    """Have this process and its children reach this machine through no proxy, whatever the environment says."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost", "::1"]))


def keep_what_is_compiled() -> None:
    """Let this process and its children write ``__pycache__``, whatever the environment says.

    Hundreds of children import the same modules; each would compile them anew, a third of what its start takes.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment for a child run from the root, without any HEADRACE_ name but those given.

    Nothing is tuned in the background unless a test says so: the search would take the cores from what is tested.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "HEADRACE_TUNE": "off", **settings}


class Output:
    """Collects the lines of a pipe on a thread.

    Attributes:
        lines: what has come so far.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self.lines: list[str] = []
        self._pipe = pipe
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def first(self, match: Callable[[str], T | None], limit_s: float | None = None, skip: int = 0) -> T | None:
        """Wait for a line for which ``match`` gives something; None at the end or after ``limit_s``.

        Args:
            skip: so many lines at the beginning are not looked at.
        """

        def found() -> T | None:
            return next((result for line in self.lines[skip:] if (result := match(line))), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, limit_s)
            return found()

    def close(self) -> None:
        """Wait for the end of the output, which the process's own end brings, and close the pipe."""
        self._thread.join()
        self._pipe.close()

    def _collect(self) -> None:
        for line in self._pipe:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

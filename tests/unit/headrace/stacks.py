"""What the tests of the supervisor share: stand-in processes, and a running command whose output is awaited."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.children import ROOT, clean_environment

# Runs until SIGTERM, and says so; its process id comes out first. The signal is blocked and waited for, so that it
# cannot arrive in the middle of anything.
SERVE = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("pid", os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
print("stopped", flush=True)
"""

# As SERVE, but deaf to SIGTERM.
DEAF = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("pid", os.getpid(), flush=True)
while True:
    signal.sigwait([signal.SIGTERM])
    print("deaf", flush=True)
"""


def own_stack(folder: Path, models: str) -> dict[str, str]:
    """Return the settings of a whole stack in ``folder``, with its ``models.toml`` and on free ports.

    Args:
        models: those to serve, by one consumer each, with commas between them.
    """
    return {
        "HEADRACE_MODELS": models,
        "HEADRACE_MODELS_FILE": str(folder / "models.toml"),
        "HEADRACE_DATA_DIR": str(folder / "data"),
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_CONSUMERS": "1",
    }


class Running:
    """A command in a process of its own; every line it prints is kept, unless ``stdout`` leads elsewhere."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.PIPE,
        cwd: Path = ROOT,
    ) -> None:
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=clean_environment(**(environment or {})),
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """Read lines until one matches; fails with all the output when the command ends first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            print(self.lines[-1])  # shown when the test fails, also by its time limit
            match = re.search(pattern, line)
            if match:
                return match
        raise AssertionError(f"no line matches {pattern!r} in:\n" + "\n".join(self.lines))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Read the rest of the output and return the exit code."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        return self.process.wait()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def wait_gone(pids: Sequence[int]) -> None:
    """Return once none of the processes runs (the test's own time limit bounds the wait)."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            select.select([descriptor], [], [])
        finally:
            os.close(descriptor)

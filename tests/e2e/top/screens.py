"""A terminal of a test's own: a program runs on it, keys are pressed, and its screen is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from typing import Self

from tests.children import ROOT, clean_environment
from tests.helpers import eventually

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """The program's terminal."""

    def __init__(self, command: Sequence[str], columns: int, rows: int, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(TERM="xterm", **environment),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_own_terminal,
        )
        self._theirs = theirs
        self.written = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, columns: int, rows: int) -> None:
        """Be of another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def read(self) -> None:
        """Take in what has been written."""
        while select.select([self._ours], [], [], 0.05)[0]:
            self.written += os.read(self._ours, 65536).decode(errors="replace")

    def frame(self) -> list[str]:
        """Return the lines of the latest whole picture, without colours."""
        self.read()
        whole = self.written.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return [_STYLE.sub("", line).rstrip("\r") for line in whole.split("\n")]

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """Wait for a picture for which something holds."""
        return eventually(lambda: frame if holds(frame := self.frame()) else None, limit_s=30)

    def end(self) -> int:
        """Wait for the end of the program; reads meanwhile, so that it can write."""
        eventually(lambda: self.frame() and self.process.poll() is not None, limit_s=20)
        self.read()
        return self.process.wait()

    def interrupt(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    @property
    def is_given_back(self) -> bool:
        """Whether the terminal is as it was, with its cursor and its first screen."""
        after = termios.tcgetattr(self._theirs)
        return after == self.before and self.written.rstrip().endswith("\x1b[?25h\x1b[?1049l")


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

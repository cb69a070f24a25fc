"""A terminal for as long as something is shown on all of it [I/O]: a screen of its own, keys one by one."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

_USUAL: Final = (80, 24)
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_KEYS: Final = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "down", b"\x1b[D": "up", b"\t": "down", b"\x1b[Z": "up"}
_KEYS_OF_APPLICATIONS: Final = {b"\x1bO" + end: key for end, key in ((b"A", "up"), (b"B", "down"))}


class Terminal:
    """Takes it over while the block runs, and gives it back as it was, whatever ends the block.

    It gives it back while the process is stopped (Ctrl-Z), too, and draws anew when the process goes on.
    """

    def __init__(self) -> None:
        self._input, self._waking = sys.stdin.fileno(), os.pipe()
        self._before: list[Any] = []
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._old = {
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._rest),
            signal.SIGTERM: signal.signal(signal.SIGTERM, _end),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _end),
        }
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        for number, handler in self._old.items():
            signal.signal(number, handler)  # the pipe stays open: a thread may still write to it

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        _write(_ENTER)

    def _give_back(self) -> None:
        _write(_LEAVE)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def _rest(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.wake()

    def wake(self) -> None:
        """Make :meth:`key` return soon; from any thread, or a signal handler."""
        os.write(self._waking[1], b"!")

    def key(self, within_s: float) -> str:
        """Return the next key, ``up`` or ``down`` for those that mean so; empty when none came or it was woken."""
        ready, _, _ = select.select([self._input, self._waking[0]], [], [], within_s)
        if self._waking[0] in ready:
            os.read(self._waking[0], 4096)
        if self._input not in ready:
            return ""
        pressed = os.read(self._input, 32)
        if not pressed:  # the terminal is gone
            return "q"
        known = _KEYS.get(pressed) or _KEYS_OF_APPLICATIONS.get(pressed)
        return known or pressed[:1].decode(errors="replace")

    def size(self) -> tuple[int, int]:
        """Return columns and lines, as the terminal says: a variable that a shell has exported does not follow it."""
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return _USUAL
        return (columns, rows) if columns and rows else _USUAL  # some terminals say 0 for what they do not know

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines from the top; what was there before goes, without flicker."""
        _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""Output of many processes on one terminal: each line behind the name of the process that wrote it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from shared.process.standard_streams import Outlet

_COLOURS = ("36", "33", "35", "32", "34", "96", "93", "95")


class Console:
    """Writes prefixed lines; coloured on a terminal unless ``NO_COLOR`` is set.

    Writing never raises and never waits: the supervisor continues even if nobody reads its output.

    Args:
        stream: standard output unless given; what has no descriptor, as in a test, is written to as it is.
    """

    def __init__(self, names: Sequence[str], stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        descriptor = _descriptor_of(self._stream)
        self._outlet = None if descriptor is None and self._stream is not None else Outlet(descriptor)
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._width = max((len(name) for name in names), default=0)
        self._colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
        is_terminal = self._stream is not None and self._stream.isatty()
        self._coloured = is_terminal and not os.environ.get("NO_COLOR")

    def line(self, name: str, text: str) -> None:
        """Write one line that the process ``name`` printed."""
        prefix = f"{name:<{self._width}} |"
        if self._coloured:
            prefix = f"\x1b[{self._colours.get(name, '37')}m{prefix}\x1b[0m"
        self._write(f"{prefix} {text}")

    def say(self, text: str = "") -> None:
        """Write a line of the supervisor's own."""
        self._write(text)

    def close(self) -> None:
        """Wait a moment until the last lines have been read."""
        if self._outlet is not None:
            self._outlet.drain()

    def _write(self, text: str) -> None:
        if self._outlet is None:
            print(text, file=self._stream, flush=True)
        else:
            self._outlet.write(f"{text}\n".encode(self._encoding, "backslashreplace"))


def _descriptor_of(stream: TextIO | None) -> int | None:
    """Return the descriptor behind a stream; None where there is none, or where it was closed before we started."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None

"""Output of many processes on one terminal: each line behind the name of the process that wrote it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

_COLOURS = ("36", "33", "35", "32", "34", "96", "93", "95")


class Console:
    """Writes prefixed lines; coloured on a terminal unless ``NO_COLOR`` is set."""

    def __init__(self, names: Sequence[str], stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._width = max((len(name) for name in names), default=0)
        self._colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
        self._coloured = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, name: str, text: str) -> None:
        """Write one line that the process ``name`` printed."""
        prefix = f"{name:<{self._width}} |"
        if self._coloured:
            prefix = f"\x1b[{self._colours.get(name, '37')}m{prefix}\x1b[0m"
        self._write(f"{prefix} {text}")

    def say(self, text: str = "") -> None:
        """Write a line of the supervisor's own."""
        self._write(text)

    def _write(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:
            # A reader that went away (`up | head`) must not take the stack down with it, now or when the stream is
            # flushed at exit: from here on the stream leads nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

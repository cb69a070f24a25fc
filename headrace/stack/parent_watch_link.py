"""The supervisor's side of the parent watch: a pipe that tells it which process groups run."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

_SCRIPT = Path(__file__).with_name("parent_watch.py")


class ParentWatch:
    """A running ``parent_watch.py``, which clears up when the supervisor ends without closing this."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            env={name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")},
        )

    def started(self, group: int) -> None:
        """Name a process group that runs now."""
        self._tell(f"+{group}")

    def ended(self, group: int) -> None:
        """Name a process group that is gone, before its id can come again."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """Let the process go; every group should have been named as ended."""
        with suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        # Without it the stack still works; the kernel watches over its processes on Linux.
        with suppress(BrokenPipeError):
            self._pipe.write(line + "\n")
            self._pipe.flush()

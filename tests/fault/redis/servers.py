"""Servers that stand in for each other: a primary with a replica, and a Sentinel that watches them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared.redis.client import connect
from shared.redis.embedded import HOST, ServerConfig, answers, dies_with_parent, find_server, free_port
from tests.embedded import EmbeddedServer
from tests.helpers import eventually


def server_in(folder: Path, appendonly: str = "no", maxmemory_mb: int = 256) -> EmbeddedServer:
    """A server of a test's own, not started yet."""
    return EmbeddedServer(ServerConfig(folder, free_port(), appendonly=appendonly, maxmemory_mb=maxmemory_mb))


@contextmanager
def pair(folder: Path, password: str = "") -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A primary and a replica of it that is up to date."""
    with ExitStack() as both:
        servers = [both.enter_context(server_in(folder / name)) for name in ("one", "two")]
        for server in servers:
            with connect(server.url) as client:
                client.config_set("repl-diskless-sync-delay", 0)
                if password:
                    client.config_set("masterauth", password)
                    client.config_set("requirepass", password)
        primary, replica = servers
        follow(replica, primary.config.port, password)
        yield primary, replica


def follow(server: EmbeddedServer, port: int, password: str = "") -> None:
    """Make a server the replica of another, and wait until it has everything."""
    with connect(with_password(server.url, password)) as client:
        client.replicaof(HOST, str(port))
        eventually(lambda: client.info("replication")["master_link_status"] == "up", 30.0)


def promote(server: EmbeddedServer) -> None:
    """Make a replica a primary, by hand."""
    with connect(server.url) as client:
        client.replicaof("NO", "ONE")


def with_password(url: str, password: str) -> str:
    """The address with a password in it."""
    return url.replace("://", f"://:{password}@") if password else url


@contextmanager
def process(
    argv: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of any kind, from the moment that it answers until it is killed."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            preexec_fn=dies_with_parent(),
        )
        try:
            eventually(lambda: answers(port) or running.poll() is not None, 20.0)
            assert running.poll() is None, log.read_text()
            yield running
        finally:
            running.kill()
            running.wait()


@contextmanager
def sentinel(
    folder: Path,
    service: str,
    port: int,
    password: str = "",
    own_password: str = "",
    *lines: str,
    executable: str = "",
    has_replica: bool = True,
) -> Iterator[int]:
    """A Sentinel that watches the server at ``port`` and gives it up after half a second; its own port.

    Args:
        lines: more lines of its configuration.
        has_replica: wait until it knows of one.
    """
    own = free_port()
    file = folder / "sentinel.conf"
    watching = [
        f"port {own}",
        f"bind {HOST}",
        f"sentinel monitor {service} {HOST} {port} 1",
        f"sentinel down-after-milliseconds {service} 500",
        f"sentinel failover-timeout {service} 5000",
        *([f"sentinel auth-pass {service} {password}"] if password else []),
        *lines,
    ]
    file.write_text("\n".join(watching) + "\n")
    with process([executable or str(find_server()), str(file), "--sentinel"], own, folder / "sentinel.log"):
        url = f"redis://{HOST}:{own}"
        with connect(url) as client:
            # Only what a Sentinel has seen can take over.
            eventually(lambda: not has_replica or client.execute_command("SENTINEL REPLICAS", service), 20.0)
            if own_password:
                client.execute_command("ACL", "SETUSER", "default", "resetpass", f">{own_password}")
        yield own

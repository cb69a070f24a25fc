"""The port for metrics: it gives them to who asks, and holds nothing for who does not."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter

from shared.metrics import server
from shared.net.hosts import Hosts
from tests.children import clean_environment


def closed(one: socket.socket) -> bool:
    try:
        return one.makefile("rb").read() == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def port() -> int:
    registry = CollectorRegistry()
    Counter("things", "Some.", registry=registry).inc()
    return server.serve(registry, "127.0.0.1", 0, Hosts())


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def ask(port: int, sent: bytes) -> bytes:
    """Send these bytes and read to the end of the connection."""
    with connect(port) as one:
        one.sendall(sent)
        return one.makefile("rb").read()


def get(port: int, target: str = "/metrics", headers: str = "Host: localhost\r\n", method: str = "GET") -> bytes:
    return ask(port, f"{method} {target} HTTP/1.1\r\n{headers}\r\n".encode())


def test_metrics_in_either_format(port: int) -> None:
    plain = get(port)
    assert plain.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n")
    assert b"\nthings_total 1.0\n" in plain
    assert b"# EOF" not in plain
    accept = "Host: localhost\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n"
    told = get(port, headers=accept)
    assert b"content-type: application/openmetrics-text; version=1.0.0" in told
    assert told.endswith(b"# EOF\n")
    assert get(port, "/").partition(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert get(port, method="HEAD").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /secrets HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n" + bytes(5_000_000), b"405"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"\0\r\n\r\n" + bytes(100_000), b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: \xff\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=a.b\r\n\r\n", b"200"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_everything_else_is_refused_in_one_line(
    port: int, sent: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(port, sent).split(b" ", 2)[1] == status
    assert capfd.readouterr() == ("", "")


def test_who_holds_connections_keeps_nobody_out(port: int) -> None:
    with ExitStack() as held:
        crowd = [held.enter_context(connect(port)) for _ in range(3 * server.MOST_CONNECTIONS)]
        for one in crowd:
            try:
                one.sendall(b"GET /metrics HTTP")
            except OSError:
                continue
        assert b"things_total" in get(port)
        assert closed(crowd[0])


NO_FILES = """
import os, resource, sys
from prometheus_client import CollectorRegistry
from shared.net.hosts import Hosts
from shared.metrics.server import serve
port = serve(CollectorRegistry(), "127.0.0.1", 0, Hosts())
print(port, flush=True)
sys.stdin.readline()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    print("full", flush=True)
sys.stdin.readline()
for one in taken:
    os.close(one)
print("free", flush=True)
sys.stdin.readline()
"""


def test_when_there_are_no_files_left_it_waits_in_silence() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NO_FILES],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert get(port).startswith(b"HTTP/1.1 200 OK")

    def go_on() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process.stdout.readline()

    with ExitStack() as held:
        assert go_on() == "full\n"
        for _ in range(20):
            held.enter_context(connect(port))
        assert go_on() == "free\n"
        assert get(port).startswith(b"HTTP/1.1 200 OK")
    _, log = process.communicate("end\n")
    assert (process.returncode, log) == (0, "")


def test_a_connection_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXCHANGE_S", 0.05)
    port = server.serve(CollectorRegistry(), "127.0.0.1", 0, Hosts())
    for begun in (b"", b"GET /metrics HTTP/1.1\r\nX: y"):
        with connect(port) as one:
            one.sendall(begun)
            assert closed(one)

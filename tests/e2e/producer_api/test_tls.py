"""TLS on the front end and to Redis, with certificates that the test makes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.redis.client import Link, RedisError, SyncLink, connect, connect_async
from tests.e2e.stack import Process, Stack, echo_models
from tests.helpers import first
from tests.unit.headrace.operators import headrace

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for this machine, signed by itself; the files of it and of its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@contextmanager
def tls_in_front(port: int, cert: Path, key: Path) -> Iterator[int]:
    """A server that takes TLS and passes on what it carries to ``port``; its own port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # Whoever is cut off, or goes away in the middle of a handshake, is no matter here.
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as outer:
                carry(outer, port)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True  # whoever is still connected at the end does not hold it up
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def carry(outer: ssl.SSLSocket, port: int) -> None:
    """Pass on both ways until either side ends."""
    with socket.create_connection(("127.0.0.1", port)) as inner:
        other = {outer: inner, inner: outer}
        while True:
            for ready in select.select([outer, inner], [], [])[0]:
                data = ready.recv(1 << 20)
                if not data:
                    return
                other[ready].sendall(data)
                while ready is outer and outer.pending():
                    inner.sendall(outer.recv(1 << 20))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def test_all_kinds_of_connections_reach_redis_through_tls(tmp_path: Path, valkey_url: str) -> None:
    cert, key = certificate(tmp_path, "redis")
    with tls_in_front(port_of(valkey_url), cert, key) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={cert}"
        with connect(url) as client:
            assert client.ping()
            link = SyncLink(client)
            assert link.call("ECHO", b"x" * 100_000) == b"x" * 100_000
            link.close()

        async def asked() -> bytes:
            client = connect_async(url)
            link = Link(client)
            try:
                answer = await link.call("ECHO", b"y" * 100_000)
            finally:
                await link.close()
                await client.aclose()
            assert isinstance(answer, bytes)
            return answer

        assert asyncio.run(asked()) == b"y" * 100_000


def test_a_server_that_nobody_vouches_for_is_refused(tmp_path: Path, valkey_url: str) -> None:
    cert, key = certificate(tmp_path, "redis")
    other, _ = certificate(tmp_path, "other")
    with tls_in_front(port_of(valkey_url), cert, key) as port:
        for url in (f"rediss://127.0.0.1:{port}/0", f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={other}"):
            with connect(url) as client, pytest.raises(RedisError, match=r"(?i)certificate"):
                client.ping()


def test_a_stack_in_which_everything_is_tls(tmp_path: Path, valkey_url: str) -> None:
    cert, key = certificate(tmp_path, "both")
    model = f"tls-{tmp_path.name}"
    with tls_in_front(port_of(valkey_url), cert, key) as redis_port:
        url = f"rediss://127.0.0.1:{redis_port}/0?ssl_ca_certs={cert}"
        files = {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
        with Stack(url, echo_models(tmp_path, model), **files) as stack:
            stack.start_consumer(model)
            front_end = stack.start_front_end()
            assert "https://127.0.0.1:" in front_end.until("Serving on")
            port = port_of(stack.url)
            # Its own health check looks at no certificate, which is for the name that others call it by.
            probed = headrace(
                url, "probe", "--port", str(port), **{f"HEADRACE_{name}": at for name, at in files.items()}
            )
            assert probed.code == 0, probed.err
            trusting = ssl.create_default_context(cafile=str(cert))
            with trusting.wrap_socket(
                socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1"
            ) as made:
                file = made.makefile("rb")
                bodies = [b"abc", b"abc", b"abc", b"x" * 200_000]  # the second and third take the express way
                for body in bodies:
                    made.sendall(
                        f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: localhost\r\n"
                        f"Content-Length: {len(body)}\r\n"
                        "Content-Type: application/octet-stream\r\nAccept: application/json\r\n\r\n".encode()
                        + body
                    )
                    assert file.readline().startswith(b"HTTP/1.1 200 ")
                    length = 0
                    while (line := file.readline().strip()) != b"":
                        name, _, value = line.partition(b": ")
                        length = int(value) if name == b"content-length" else length
                    [output] = json.loads(file.read(length))["outputs"]
                    assert output["shape"] == [1, len(body)]
                file.close()
            with socket.create_connection(("127.0.0.1", port)) as plain:
                plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert not plain.makefile("rb").read().startswith(b"HTTP/1.1 200")
            assert front_end.terminate() == 0


@pytest.mark.parametrize("wrong", first(1, ["alone", "missing", "of another certificate", "no key"]))
def test_files_that_cannot_be_used_are_one_sentence_and_exit_2(tmp_path: Path, wrong: str) -> None:
    cert, _ = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "two")
    settings = {"HEADRACE_TLS_CERT_FILE": str(cert), "HEADRACE_PORT": "0"}
    if wrong != "alone":
        found = {"missing": tmp_path / "missing", "of another certificate": other, "no key": cert}[wrong]
        settings["HEADRACE_TLS_KEY_FILE"] = str(found)
    process = Process(["-m", "producer_api"], settings)
    try:
        process.until("HEADRACE_TLS_KEY_FILE")
        assert process.popen.wait() == 2
    finally:
        process.close()


def test_metrics_move_to_a_port_of_their_own(tmp_path: Path, valkey_url: str) -> None:
    with Stack(valkey_url, echo_models(tmp_path, "unused"), API_METRICS_PORT="0") as stack:
        front_end = stack.start_front_end()
        front_end.until("Serving on")
        with socket.create_connection(("127.0.0.1", port_of(stack.url))) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 404 ")
        address = front_end.until("Metrics at ").rpartition("http://127.0.0.1:")[2].partition("/")[0]
        with socket.create_connection(("127.0.0.1", int(address))) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"headrace_requests_in_flight" in connection.makefile("rb").read()

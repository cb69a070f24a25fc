"""A front end that is to stop: not ready first, then closed, then gone."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from producer_api.http import server as server_module
from producer_api.http.server import Tls
from tests.e2e.http_server import Connection, HttpServer
from tests.e2e.stack import Process, Stack, echo_models
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(60)

ASK = b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    with Stack(valkey_url, echo_models(tmp_path, model_name), DEFAULT_TIMEOUT_MS="1000") as stack:
        yield stack


def connect(stack: Stack) -> Connection:
    port = urlsplit(stack.url).port
    assert port is not None
    return Connection(port)


def takes_connections(stack: Stack) -> bool:
    try:
        connect(stack).__exit__()
    except ConnectionRefusedError:
        return False
    return True


def predict(connection: Connection, model: str) -> tuple[int, str]:
    connection.post(model, b"hi")
    status, headers, _ = connection.response()
    return status, headers.get("connection", "")


def drained(stack: Stack) -> Process:
    """A front end that has been told to stop and has a long grace."""
    front_end = stack.start_front_end(DRAIN_S="600")
    front_end.signal(signal.SIGTERM)
    front_end.until("Draining for 600 s")
    return front_end


def test_a_front_end_is_not_ready_first_and_closes_later(stack: Stack, model_name: str) -> None:
    stack.start_consumer(model_name)
    front_end = stack.start_front_end(DRAIN_S="600")
    stack.wait(model_name)
    with connect(stack) as kept, connect(stack) as ready:
        ready.send(ASK)
        assert ready.response()[0] == 200
        assert predict(kept, model_name) == predict(kept, model_name) == (200, "")
        front_end.signal(signal.SIGTERM)
        front_end.until("Draining for 600 s")
        ready.send(ASK)
        status, headers, body = ready.response()
        assert (status, headers["connection"], body["ready"]) == (503, "close", False)
        assert "draining" in body["reasons"][0]
        assert ready.closed()
        assert predict(kept, model_name) == (200, "close")  # on the express way
        assert kept.closed()
        with connect(stack) as new, connect(stack) as probe:
            assert predict(new, model_name) == (200, "close")
            assert new.closed()
            probe.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert probe.response()[0] == 200
        front_end.signal(signal.SIGTERM)
        eventually(lambda: not takes_connections(stack), limit_s=30)
    assert front_end.popen.wait() == 0


def test_the_grace_ends_by_itself(stack: Stack) -> None:
    front_end = stack.start_front_end(DRAIN_S="0.3")
    with connect(stack) as idle:
        idle.send(ASK)
        idle.response()
        front_end.signal(signal.SIGTERM)
        front_end.until("Draining for 0.3 s")
        assert idle.closed()
    assert front_end.popen.wait() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_grace(stack: Stack, second: signal.Signals) -> None:
    front_end = drained(stack)
    assert takes_connections(stack)
    front_end.signal(second)
    assert front_end.popen.wait() == 0


def test_without_a_grace_it_is_as_before(stack: Stack) -> None:
    front_end = stack.start_front_end()
    assert front_end.terminate() == 0
    assert "Draining" not in front_end.text()


def test_requests_that_were_sent_together_are_all_answered(stack: Stack, model_name: str) -> None:
    stack.start_consumer(model_name)
    front_end = stack.start_front_end(DRAIN_S="600")
    stack.wait(model_name)
    with connect(stack) as kept:
        assert predict(kept, model_name) == (200, "")
        front_end.signal(signal.SIGTERM)
        front_end.until("Draining for 600 s")
        one = b"POST /v1/models/%b/predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
        kept.send((one % model_name.encode() + b"Content-Length: 2\r\n\r\nhi") * 3)
        answers = [kept.response() for _ in range(3)]
        assert [status for status, _, _ in answers] == [200] * 3
        assert [headers.get("connection") for _, headers, _ in answers] == [None, None, "close"]
        assert kept.closed()


@pytest.mark.parametrize("asks_at_once", [True, False])
def test_who_has_connected_and_was_not_looked_at_yet_is_answered(
    tls: Tls | None, asks_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is told to stop while connections wait in the kernel, which would reset them."""
    is_to_stop, stands, connected = threading.Event(), threading.Event(), threading.Event()

    async def on_tick(counter: int) -> bool:
        if not is_to_stop.is_set():
            return False
        stands.set()
        assert connected.wait(30)  # the loop stands still, and goes on with the end
        return True

    with HttpServer(tls=tls) as server, ExitStack() as opened:
        monkeypatch.setattr(server.uvicorn, "on_tick", on_tick)
        is_to_stop.set()
        assert stands.wait(30)
        waiting = [opened.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)]
        if tls is None and asks_at_once:
            for one in waiting:
                one.sendall(ASK)
        connected.set()
        if tls is not None:
            trusted = ssl.create_default_context(cafile=tls.cert_file)
            waiting = [opened.enter_context(trusted.wrap_socket(one, server_hostname="127.0.0.1")) for one in waiting]
        if tls is not None or not asks_at_once:
            for one in waiting:
                one.sendall(ASK)
        for one in waiting:
            one.settimeout(30)
            answer = one.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ")  # it is not ready, and says so
            assert b"connection: close" in answer.lower()


def test_who_connected_a_moment_ago_may_still_ask(tls: Tls | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LAST_REQUEST_S", 600.0)
    with HttpServer(tls=tls) as server, server.connect() as fresh, server.connect() as kept:
        kept.send(ASK)
        assert kept.response()[0] == 200
        eventually(lambda: len(server.connections()) == 2)
        server.stop()
        eventually(lambda: not _takes(server.port))
        kept.send(ASK)  # whoever asks meanwhile is answered, too
        assert kept.response()[1]["connection"] == "close"
        fresh.send(ASK)
        status, headers, _ = fresh.response()
        assert (status, headers["connection"]) == (503, "close")
        assert fresh.closed()


def _takes(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_who_has_connected_and_asks_nothing_holds_up_no_end() -> None:
    is_to_stop, stands, connected = threading.Event(), threading.Event(), threading.Event()
    server = HttpServer()

    async def on_tick(counter: int) -> bool:
        if not is_to_stop.is_set():
            return False
        stands.set()
        assert connected.wait(30)
        return True

    server.uvicorn.on_tick = on_tick  # type: ignore[method-assign]
    with server:
        is_to_stop.set()
        assert stands.wait(30)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
            connected.set()
            assert silent.recv(1) == b""

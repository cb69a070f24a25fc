"""Answers after which the connection ends: the client gets them whatever it has sent and not been asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_api.auth import KeyCheck
from producer_api.http import connection as http_connection
from producer_api.http.express_protocol import ExpressProtocol, protocol
from producer_api.http.server import Tls
from shared.settings import Settings
from tests.e2e.http.test_http_express import post
from tests.e2e.http_server import Connection, HttpServer
from tests.helpers import eventually

MEGABYTE = 1 << 20
RAW = "Content-Type: application/octet-stream\r\n"
_POST = f"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\n{RAW}".encode()

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def server(tls: Tls | None) -> Iterator[HttpServer]:
    with HttpServer(Settings(max_body_bytes=MEGABYTE), tls=tls) as started:
        yield started


def sent_before_reading(connection: Connection, *pieces: bytes) -> int:
    """Send all of these and then read; the status of the answer."""
    for piece in pieces:
        connection.send(piece)
    status, headers, _ = connection.response()
    assert headers["connection"] == "close"
    return status


def sends(connection: Connection) -> bool:
    try:
        connection.send(bytes(1000))
    except OSError:
        return False
    return True


FLOOD = bytes(8 * MEGABYTE)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\0", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (_POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (_POST + b"Content-Length: " + b"0" * 4300 + b"8\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + bytes(b"y" * MEGABYTE), 431),
        (_POST + b"Content-Length: 8388608\r\n\r\n", 413),
        (_POST + b"Content-Length: 8388608\r\nExpect: 100-continue\r\n\r\n", 413),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\n800000\r\n", 413),
        (_POST.replace(b"echo", b"nobody") + b"Content-Length: 8388608\r\n\r\n", 404),
        (_POST.replace(b"POST", b"PUT") + b"Content-Length: 8388608\r\n\r\n", 405),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_refusal_arrives_whatever_was_sent_behind_it(server: HttpServer, head: bytes, status: int) -> None:
    with server.connect() as connection:
        assert sent_before_reading(connection, head, FLOOD) == status
    with server.connect() as connection:
        assert sent_before_reading(connection, head + FLOOD[: MEGABYTE // 2], FLOOD) == status


def test_the_last_answer_arrives_although_more_was_asked(server: HttpServer) -> None:
    with server.connect() as connection:
        last = post(b"last", RAW + "Connection: close\r\n")
        assert sent_before_reading(connection, last + post(b"more"), post(bytes(MEGABYTE)), FLOOD) == 200
        assert connection.closed()


def test_a_key_that_is_missing_is_said_before_the_body(tmp_path: Path, tls: Tls | None) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{"0" * 64}"\n')
    assert KeyCheck(str(file))
    with HttpServer(Settings(keys_file=str(file)), tls=tls) as server, server.connect() as connection:
        assert sent_before_reading(connection, _POST + b"Content-Length: 8388608\r\n\r\n", FLOOD) == 401


@pytest.mark.parametrize("begun", [b"GET /healthz HTTP/1.1\r\nHost: te", _POST + b"Content-Length: 999999\r\n\r\nabc"])
def test_a_time_that_is_over_is_said(begun: bytes, tls: Tls | None) -> None:
    with HttpServer(protocol=protocol(head_timeout_s=0.05), tls=tls) as server:
        for route in server.app.routes:
            if hasattr(getattr(route, "endpoint", None), "body_timeout_s"):
                route.endpoint.body_timeout_s = 0.05  # type: ignore[attr-defined]
        with server.connect() as connection:
            connection.send(begun)
            eventually(lambda: any(one._ending for one in server.connections()))
            with contextlib.suppress(ConnectionError):
                assert sent_before_reading(connection, FLOOD) == 408


def test_who_has_its_last_answer_and_does_not_close_is_closed(tls: Tls | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "LINGER_QUIET_S", 0.05)
    with HttpServer(tls=tls) as server, server.connect() as connection:
        connection.send(b"\0\r\n\r\n")
        assert connection.response()[0] == 400
        eventually(lambda: not server.connections())


@pytest.mark.parametrize("limit", ["LINGER_BYTES", "LINGER_S"])
def test_who_sends_on_and_on_after_its_last_answer_is_closed(
    tls: Tls | None, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "LINGER_QUIET_S", 0.05)
    monkeypatch.setattr(http_connection, limit, 0)
    with HttpServer(tls=tls) as server, server.connect() as connection:
        connection.send(b"\0\r\n\r\n")
        assert connection.response()[0] == 400
        eventually(lambda: not sends(connection))
        eventually(lambda: not server.connections())


def test_a_front_end_that_stops_does_not_wait_for_clients_that_do_not_close() -> None:
    """Less than a second for those that have their answers, whatever they would be given otherwise."""
    with HttpServer() as server, server.connect() as connection:
        connection.send(b"\0\r\n\r\n")
        assert connection.response()[0] == 400
        assert server.connections()
        server.stop()
        server.wait()
        assert connection.closed()


def test_ordinary_ends_take_no_longer_than_the_client() -> None:
    kind: type[ExpressProtocol] = protocol()
    with HttpServer(protocol=kind) as server:
        for _ in range(3):
            with server.connect() as connection:
                connection.send(post(b"x", RAW + "Connection: close\r\n"))
                assert connection.response()[0] == 200
                assert connection.closed()
            eventually(lambda: not server.connections())

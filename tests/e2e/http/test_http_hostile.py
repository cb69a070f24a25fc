"""Hostile clients against the real HTTP server: rows 36 and 37 of the list of bad input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from producer_api.http.express_protocol import protocol
from producer_api.http.guarded_protocol import HEAD_BYTES, HEAD_LINES
from shared.settings import Settings
from tests.e2e.http_server import Connection, HttpServer
from tests.memory import resident_bytes

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[HttpServer]:
    """One server for all tests that leave it running."""
    with HttpServer(Settings(max_body_bytes=MEGABYTE)) as started:
        yield started


@pytest.fixture
def server(running: HttpServer) -> Iterator[HttpServer]:
    """A server whose bodies are at most 1 MB and to which nothing has been submitted."""
    running.queue.submitted.clear()
    yield running
    running.release()


def _served(server: HttpServer) -> bool:
    """Say whether another client is served."""
    with server.connect() as other:
        other.post("echo", b"hello")
        return other.response()[0] == 200


def _served_page(server: HttpServer) -> bool:
    return bool(server.get("/healthz")[0] == 200)


def _refused(connection: Connection, status: int) -> None:
    found, headers, body = connection.response()
    assert (found, headers["connection"]) == (status, "close")
    assert set(body["error"]) == {"code", "message", "field", "id"}
    assert connection.closed()


def test_an_endless_body_in_chunks_is_refused_at_the_limit(server: HttpServer) -> None:
    chunk = b"%x\r\n%s\r\n" % (MEGABYTE // 4, bytes(MEGABYTE // 4))
    before = resident_bytes()
    most = 0
    with server.connect() as connection:
        connection.send(
            b"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(48 * 4):  # 48 MB of what would be 10 GB
            connection.send(chunk)
            if number % 16 == 0:
                most = max(most, resident_bytes())
            if number == 96:
                assert _served(server)
        connection.send(b"0\r\n\r\n")
        status, headers, body = connection.response()
        assert (status, body["error"]["code"], headers["connection"]) == (413, "body_too_large", "close")
        assert connection.closed()
    assert most - before < 16 * MEGABYTE
    assert not any(len(request.body or b"") > MEGABYTE for request in server.queue.submitted)


def test_a_declared_length_over_the_limit_is_refused_before_the_body(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.send(
            b"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: 10737418240\r\nExpect: 100-continue\r\n\r\n"
        )
        status, _, body = connection.response()
        assert (status, body["error"]["code"]) == (413, "body_too_large")


def test_a_client_that_sends_all_before_it_reads_still_sees_why(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.post("echo", bytes(8 * MEGABYTE))
        assert connection.response()[0] == 413
        assert connection.closed()


def test_the_connection_survives_a_small_refused_body(server: HttpServer) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.post("nobody", bytes(1000))
            status, headers, _ = connection.response()
            assert (status, headers.get("connection")) == (404, None)
        connection.post("echo", b"x")
        assert connection.response()[0] == 200


def test_expect_continue(server: HttpServer) -> None:
    with server.connect() as connection:
        head = b"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
        connection.send(head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.response()[0] == 100
        connection.send(b"hi")
        assert connection.response()[0] == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"GET",
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: test\r\nX: y",
        b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\nGET /healthz",
    ],
)
def test_a_head_that_never_ends(begun: bytes) -> None:
    with HttpServer(protocol=protocol(head_timeout_s=0.05)) as server, server.connect() as connection:
        connection.send(begun)
        if begun.count(b"GET") == 2:
            assert connection.response()[0] == 200
        if begun.strip():
            _refused(connection, 408)
        else:
            assert connection.closed()
        assert server.get("/healthz")[0] == 200


def test_a_hundred_slow_clients_do_not_delay_another(server: HttpServer) -> None:
    slow = [server.connect() for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.send(
                (b"GET /healthz HTTP/1.1\r\nHost: te", b"POST /v1/models/echo/predict HTTP/1.1\r\n")[number % 2]
            )
        assert _served(server)
        for connection in slow:
            connection.send(b"X")
        assert _served(server)
    finally:
        for connection in slow:
            connection.__exit__()


def test_answers_are_not_cut_by_the_time_limit_of_the_head() -> None:
    with HttpServer(protocol=protocol(head_timeout_s=0.02)) as server, server.connect() as connection:
        server.queue.hold()
        connection.post("echo", b"x", "X-Test: 1\r\n")
        with server.connect() as clock:
            assert clock.closed()  # the time limit has passed since the request was sent
        server.release()
        assert connection.response()[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 2 * HEAD_BYTES,
        b"a" * 2 * HEAD_BYTES + b": b",
        b"\r\n".join(b"X-%d: y" % number for number in range(HEAD_LINES)),
        b"\r\n".join(b"X-%d: %s" % (number, b"a" * 1000) for number in range(90)),
    ],
    ids=["value", "name", "lines", "sum"],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_header_bombs(server: HttpServer, head: bytes, at_once: bool) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n\r\n"
    with server.connect() as connection:
        if at_once:
            connection.send(whole)
        else:
            for start in range(0, len(whole), 8192):
                connection.send(whole[start : start + 8192])
        _refused(connection, 431)
    assert _served(server)


def test_a_long_target(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.send(b"GET /" + b"a" * 2 * HEAD_BYTES + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        _refused(connection, 431)


def test_a_head_and_a_large_body_in_one_piece_are_fine(server: HttpServer) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.post("echo", bytes(300_000), "Accept: application/msgpack\r\n")
            assert connection.response()[0] == 200
        head = b"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\nAccept: application/msgpack\r\n"
        connection.send(head)
        rest = b"Content-Type: application/octet-stream\r\nContent-Length: 200000\r\n\r\n"
        connection.send(rest + bytes(200_000))
        assert connection.response()[0] == 200


@pytest.mark.parametrize("bomb", [b"X: " + b"a" * 4 * MEGABYTE, b"X: y\r\n" * 300_000], ids=["one", "many"])
def test_trailer_bombs(server: HttpServer, bomb: bytes) -> None:
    head = b"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
    with server.connect() as connection:
        connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        with contextlib.suppress(ConnectionError):  # the server may close before all is sent
            connection.send(bomb + b"\r\n\r\n")
            assert connection.response()[0] == 431
    assert not server.queue.submitted
    assert _served(server)


_POST = b"POST /v1/models/echo/predict HTTP/1.1\r\nContent-Type: application/octet-stream\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: " + b"a" * 256 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a/../b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: user@a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a:http\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        b"GET /healthz HTTP/1.1\r\nX: a\r\n b\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _POST + b"Host: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        _POST + b"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        _POST + b"Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        _POST + b"Host: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        _POST + b"Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        _POST + b"Host: a\r\nContent-Length: +3\r\n\r\nabc",
        _POST + b"Host: a\r\nContent-Length: -1\r\n\r\n",
        _POST + b"Host: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        _POST + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        _POST + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_malformed_and_ambiguous_requests(server: HttpServer, request_bytes: bytes) -> None:
    with server.connect() as connection:
        connection.send(request_bytes)
        _refused(connection, 400)
    assert not server.queue.submitted
    assert _served(server)


def test_good_hosts(server: HttpServer) -> None:
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "a"):
        with server.connect() as connection:
            connection.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert connection.response()[0] == 200
    with server.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.response()[0] == 200


def test_a_broken_pipelined_request_does_not_answer_the_one_before_it(server: HttpServer) -> None:
    server.queue.hold()
    with server.connect() as connection:
        connection.post("echo", b"first", "X-Broken: next\r\n")  # a head that takes the ordinary way
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        server.release()
        status, _, body = connection.response()
        assert (status, body["outputs"][0]["data"]) == (200, list(b"first"))
        _refused(connection, 400)  # by itself, when its turn has come


def test_pipelined_requests_are_answered_in_order(server: HttpServer) -> None:
    with server.connect() as connection:
        for number in range(20):
            connection.post("echo", bytes([number]))
        for number in range(20):
            assert connection.response()[2]["outputs"][0]["data"] == [number]


def test_clients_that_leave(server: HttpServer) -> None:
    server.queue.hold()
    for number in range(50):
        connection = server.connect()
        if number % 2:
            connection.post("echo", b"x")
        else:
            connection.send(_POST + b"Host: a\r\nContent-Length: 100\r\n\r\nabc")
        connection.reset()
    server.release()
    assert _served(server)
    with server.connect() as connection:
        connection.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"\nheadrace_requests_in_flight " in connection.response()[2]


def test_stopping_answers_what_is_in_flight_and_takes_no_more() -> None:
    with HttpServer() as server, server.connect() as busy, server.connect() as idle:
        server.queue.hold()
        busy.post("echo", b"last")
        idle.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        assert idle.response()[0] == 200
        server.stop()
        assert idle.closed()
        server.release()
        status, headers, body = busy.response()
        assert (status, headers["connection"]) == (200, "close")
        assert body["outputs"][0]["data"] == list(b"last")
        assert busy.closed()
        server.wait()
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_what_has_not_ended_when_the_time_for_stopping_is_over() -> None:
    with HttpServer() as server, server.connect() as busy:
        server.queue.hold()
        busy.post("echo", b"last", "X-Wait: 1\r\n")
        while not server.queue.submitted:
            assert _served_page(server)
        server.uvicorn.config.timeout_graceful_shutdown = 0
        server.stop()
        status, headers, body = busy.response()
        assert (status, body["error"]["code"]) == (503, "shutting_down")
        assert int(headers["retry-after"]) >= 1
        assert busy.closed()


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_an_offer_of_another_protocol_is_ignored(server: HttpServer, body: bytes) -> None:
    with server.connect() as connection:
        upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
        for _ in range(2):
            connection.post("echo", body, upgrade)
            status, _, answer = connection.response()
            assert status == (200 if body else 422)
            assert not body or answer["outputs"][0]["data"] == list(body)
        connection.post("echo", b"x")
        assert connection.response()[0] == 200


def test_many_offers_at_once_are_ignored_one_by_one(server: HttpServer) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with server.connect() as connection:
        connection.send(one * 2000)
        assert {connection.response()[0] for _ in range(2000)} == {200}


def test_no_header_tells_what_the_server_is(server: HttpServer) -> None:
    _, headers, _ = server.get("/healthz")
    assert not {"server", "date", "x-powered-by"} & set(headers)

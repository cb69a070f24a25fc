"""Clients that do not read their answers, or slowly: they keep nobody out, hold a bounded sum, and not for ever."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from producer_api.http.express_protocol import ExpressProtocol, protocol
from producer_api.http.server import Tls
from shared.settings import Settings
from tests.e2e.http.test_http_express import post
from tests.e2e.http_server import Connection, HttpServer
from tests.helpers import eventually
from tests.memory import resident_bytes

MEGABYTE = 1 << 20
PACKED = "Content-Type: application/octet-stream\r\nAccept: application/msgpack\r\n"
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"
PADDED = b"GET /healthz HTTP/1.1\r\nHost: test\r\nX: " + b"y" * 4096 + b"\r\n\r\n"
WAYS: dict[str, type[ExpressProtocol]] = {
    "express": protocol(),
    "ordinary": protocol(_is_between_messages=lambda self: False),
}

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> type[ExpressProtocol]:
    return WAYS[request.param]


def ask(connection: Connection, size: int) -> None:
    """Send a request whose answer is a little longer than ``size``."""
    connection.send(post(bytes(size), PACKED))


def teach(server: HttpServer, size: int) -> None:
    with server.connect() as connection:
        ask(connection, size)
        assert connection.response()[0] == 200


def sending(server: HttpServer) -> float:
    return server.metric("headrace_sending_bytes")


def given_up(server: HttpServer, why: str) -> float:
    return server.metric("headrace_answers_given_up_total", why=why)


def test_who_takes_nothing_for_too_long_is_cut_off(way: type[ExpressProtocol], tls: Tls | None) -> None:
    with HttpServer(Settings(write_timeout_s=0.3), way, tls=tls) as server:
        teach(server, 8 * MEGABYTE)
        with server.connect() as connection:
            ask(connection, 8 * MEGABYTE)
            eventually(lambda: sending(server) > 8 * MEGABYTE or given_up(server, "stalled"))
            eventually(lambda: given_up(server, "stalled") == 1)
            eventually(lambda: not server.connections())
            assert sending(server) == 0
            assert len(connection.rest()) < 8 * MEGABYTE
        teach(server, 8 * MEGABYTE)
        assert given_up(server, "stalled") == 1


def test_who_reads_slowly_gets_everything(way: type[ExpressProtocol], tls: Tls | None) -> None:
    """A little after each time that the server has looked, for several times as long as it may take nothing."""
    size, looks = 2 * MEGABYTE, 0

    def look(connection: ExpressProtocol) -> None:
        nonlocal looks
        looks += 1
        way._look(connection)

    with HttpServer(Settings(write_timeout_s=1.0), type("Watched", (way,), {"_look": look}), tls=tls) as server:
        teach(server, size)
        with server.connect() as connection:
            ask(connection, size)
            eventually(lambda: sending(server) > size)
            got = bytearray()
            for number in range(1, 13):  # four in a second
                eventually(lambda number=number: looks >= number)  # type: ignore[misc]
                while len(got) < number * 100_000:
                    got += connection.some(8192)
            assert sending(server) > size
            rest = answered(connection, got)
            ask(connection, 100)
            assert not answered(connection, rest)
        assert given_up(server, "stalled") == given_up(server, "room") == 0


def answered(connection: Connection, got: bytearray) -> bytearray:
    """Read one whole answer, of which this much is here; returns what came behind it."""
    end = -1
    while end < 0 or len(got) < end:
        piece = connection.some(MEGABYTE)
        assert piece, "the server has closed the connection"
        got += piece
        head, found, _ = got.partition(b"\r\n\r\n")
        if found:
            assert head.startswith(b"HTTP/1.1 200 ")
            end = len(head) + 4 + int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return got[end:]


def test_unread_answers_are_bounded_in_their_sum(way: type[ExpressProtocol]) -> None:
    most, size = 8 * MEGABYTE, 2 * MEGABYTE
    settings = Settings(max_body_bytes=size, max_receiving_bytes=64 * size, max_sending_bytes=most, write_timeout_s=600)
    with HttpServer(settings, way) as server, ExitStack() as held:
        teach(server, size)
        server.queue.submitted.clear()
        before = resident_bytes()
        crowd = [held.enter_context(server.connect()) for _ in range(30)]
        for number, connection in enumerate(crowd, 1):
            ask(connection, size)
            eventually(lambda number=number: given_up(server, "room") >= number - 3 and server.queue.submitted)  # type: ignore[misc]
            server.queue.submitted.clear()  # this queue keeps what it was given
        eventually(lambda: given_up(server, "room") == len(crowd) - 3)
        assert most - size < sending(server) <= most
        assert resident_bytes() - before < 60 * MEGABYTE
        teach(server, size)


def test_unread_answers_take_no_places(way: type[ExpressProtocol]) -> None:
    with HttpServer(Settings(max_in_flight=2), way) as server, ExitStack() as held:
        teach(server, 4 * MEGABYTE)
        for number in range(1, 5):
            connection = held.enter_context(server.connect())
            ask(connection, 4 * MEGABYTE)
            eventually(lambda number=number: sending(server) > number * 4 * MEGABYTE)  # type: ignore[misc]
            ask(connection, 4)  # this one waits for its turn
        eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
        teach(server, 4 * MEGABYTE)


def test_requests_that_come_at_once_are_taken_one_by_one(way: type[ExpressProtocol]) -> None:
    """Thousands of them, from clients that do not read: no more of them is kept than their bytes."""
    count = 400
    with HttpServer(protocol=way) as server, ExitStack() as held:
        before = resident_bytes()
        crowd = [held.enter_context(server.connect()) for _ in range(8)]
        for connection in crowd:
            threading.Thread(target=connection.send, args=(PAGE * count,), daemon=True).start()
        eventually(lambda: sum(one.flow.write_paused and bool(one._held) for one in server.connections()) == len(crowd))
        assert resident_bytes() - before < 24 * MEGABYTE
        assert server.metric("headrace_receiving_bytes") == sum(len(one._held) for one in server.connections())
        assert {crowd[0].response()[0] for _ in range(count)} == {200}
        assert server.metric("headrace_sending_bytes") < 8 * MEGABYTE
    eventually(lambda: server.metric("headrace_receiving_bytes") == 0)


def test_what_waits_for_its_turn_is_bounded_in_its_sum(way: type[ExpressProtocol]) -> None:
    """The request that is being answered is then the last one."""
    settings = Settings(max_body_bytes=MEGABYTE, max_receiving_bytes=MEGABYTE)
    with HttpServer(settings, way) as server, ExitStack() as held:
        teach(server, 3)
        server.queue.hold()
        crowd = [held.enter_context(server.connect()) for _ in range(40)]
        for number, connection in enumerate(crowd, 1):
            ask(connection, 3)
            eventually(lambda number=number: len(server.queue.submitted) == number + 1)  # type: ignore[misc]
            connection.send(PADDED * 10)
        eventually(lambda: all(one.flow.is_held for one in server.connections()))
        assert server.metric("headrace_receiving_bytes") <= MEGABYTE
        server.release()
        last = 0
        for connection in crowd:
            status, headers, _ = connection.response()
            assert status == 200
            if "connection" in headers:
                last += 1
                assert connection.closed()
            else:
                assert {connection.response()[0] for _ in range(10)} == {200}
        assert 10 < last < 40


def test_a_request_that_never_ends_is_skipped_for_a_while_only() -> None:
    """A small refused body is skipped, so that its connection lives on, but not for ever."""
    with HttpServer(protocol=protocol(head_timeout_s=0.05)) as server, server.connect() as connection:
        connection.send(post(b"x", PACKED, "nobody", length=1000))
        assert connection.response()[0] == 404
        connection.send(b"x")
        assert connection.closed()

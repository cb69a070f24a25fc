"""Clients that send their bodies slowly, or not at all, at the real server: they keep nobody else out."""

from __future__ import annotations

import select
from contextlib import ExitStack

import pytest

from producer_api.http.express_protocol import ExpressProtocol, protocol
from shared.settings import Settings
from tests.e2e.http_server import Connection, HttpServer
from tests.helpers import eventually
from tests.memory import resident_bytes

MEGABYTE = 1 << 20
CROWD = 80
WAYS: dict[str, type[ExpressProtocol]] = {
    "express": protocol(patience_s=60.0),
    "handed over": protocol(patience_s=0.01),
    "ordinary": protocol(_is_between_messages=lambda self: False),
}

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> type[ExpressProtocol]:
    """How incomplete bodies are collected; with a known head, on the express way, for a while or all the time."""
    return WAYS[request.param]


def head(length: int) -> bytes:
    kind = "Content-Type: application/octet-stream"
    return f"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\n{kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def teach(server: HttpServer, length: int) -> None:
    """Have the server see the head once."""
    with server.connect() as connection:
        connection.send(head(length) + bytes(length))
        assert connection.response()[0] == 200


def answered(server: HttpServer, *pieces: bytes) -> int:
    """Status of the answer to a request that is sent in these pieces, on a connection of its own."""
    with server.connect() as connection:
        for piece in pieces:
            connection.send(piece)
            server.settle()
        return connection.response()[0]


def receiving(server: HttpServer) -> float:
    return server.metric("headrace_receiving_bytes")


def test_heads_without_a_body_take_no_places(way: type[ExpressProtocol]) -> None:
    """Ten times as many as there are places."""
    with HttpServer(Settings(max_in_flight=3), way) as server, ExitStack() as held:
        teach(server, 9)
        slow = [held.enter_context(server.connect()) for _ in range(30)]
        for number, connection in enumerate(slow):
            connection.send(head(9) + b"smuggled"[: number % 3])
        eventually(lambda: receiving(server) == 30)
        server.settle(30)
        assert answered(server, head(9) + b"123456789") == 200
        assert answered(server, head(9), b"1234", b"56789") == 200
        assert server.metric("headrace_requests_in_flight") == 0
        for number, connection in enumerate(slow):
            connection.send(b"smuggled!"[number % 3 :])
            assert connection.response()[0] == 200
        assert receiving(server) == 0


def test_who_waits_with_a_whole_request_does_take_a_place(way: type[ExpressProtocol]) -> None:
    with HttpServer(Settings(max_in_flight=1), way) as server, server.connect() as slow, server.connect() as other:
        teach(server, 3)
        server.queue.hold()
        slow.send(head(3) + b"1")
        eventually(lambda: receiving(server) == 1)
        slow.send(b"23")
        eventually(lambda: len(server.queue.submitted) == 2)
        other.send(head(3) + b"456")
        status, headers, body = other.response()
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
        server.release()
        assert slow.response()[0] == 200


def test_no_more_wait_than_may_whenever_their_bodies_were_complete(way: type[ExpressProtocol]) -> None:
    """A request that found room when its head came is asked again once it is whole; its connection lives on."""
    with HttpServer(Settings(max_in_flight=2), way) as server, ExitStack() as held:
        teach(server, 3)
        server.queue.hold()
        crowd = [held.enter_context(server.connect()) for _ in range(5)]
        for connection in crowd:
            connection.send(head(3) + b"1")
        eventually(lambda: receiving(server) == 5)
        for connection in crowd:
            connection.send(b"23")
            server.settle()
        for connection in crowd[2:]:
            status, headers, body = connection.response()
            assert (status, body["error"]["code"]) == (503, "overloaded")
            assert "connection" not in headers
        server.release()
        assert [one.response()[0] for one in crowd[:2]] == [200, 200]
        for connection in crowd:
            connection.send(head(3) + b"456")
            assert connection.response()[0] == 200


def crowd_in(server: HttpServer, held: ExitStack) -> tuple[list[Connection], list[Connection]]:
    """Let many send all of their bodies but the last byte; returns those taken in, and those that have an answer."""
    crowd = [held.enter_context(server.connect()) for _ in range(CROWD)]
    for connection in crowd:
        connection.send(head(MEGABYTE) + bytes(MEGABYTE - 1))

    def settled() -> tuple[list[Connection], list[Connection]] | None:
        refused = [one for one in crowd if select.select([one._socket], [], [], 0)[0]]
        taken = [one for one in crowd if one not in refused]
        return (taken, refused) if receiving(server) == len(taken) * (MEGABYTE - 1) else None

    found = eventually(settled, limit_s=40.0)
    assert found is not None
    return found


def overloaded(connection: Connection) -> bool:
    status, headers, body = connection.response()
    return (status, body["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")


def test_bodies_under_way_are_bounded_in_their_sum(way: type[ExpressProtocol]) -> None:
    most = 4 * MEGABYTE
    with HttpServer(Settings(max_body_bytes=MEGABYTE, max_receiving_bytes=most), way) as server:
        server.app.express.context.body_budget.patience_s = 600.0
        teach(server, MEGABYTE)
        before = resident_bytes()
        with ExitStack() as held:
            taken, refused = crowd_in(server, held)
            assert (len(taken), len(refused)) == (4, CROWD - 4)
            assert resident_bytes() - before < 40 * MEGABYTE
            assert all(overloaded(connection) for connection in refused)
            assert answered(server, head(9) + b"123456789") == 200
            for connection in taken:
                connection.send(b"x")
                assert connection.response()[0] == 200
            assert server.metric("headrace_requests_in_flight") == 0
        assert receiving(server) == 0
        half = bytes(MEGABYTE // 2)
        assert answered(server, head(MEGABYTE), half, half) == 200


@pytest.mark.parametrize("kind", ["handed over", "ordinary"])
def test_slow_bodies_give_way_to_newcomers(kind: str) -> None:
    """They hold all the room there is; who comes later is served at their expense."""
    most = 4 * MEGABYTE
    with HttpServer(Settings(max_body_bytes=MEGABYTE, max_receiving_bytes=most), WAYS[kind]) as server:
        server.app.express.context.body_budget.patience_s = 0.0
        teach(server, MEGABYTE)
        with ExitStack() as held:
            crowd = [held.enter_context(server.connect()) for _ in range(4)]
            for number, connection in enumerate(crowd, 1):
                connection.send(head(MEGABYTE) + bytes(MEGABYTE - 1))
                eventually(lambda number=number: receiving(server) == number * (MEGABYTE - 1))  # type: ignore[misc]
            eventually(lambda: all(one._partial is None for one in server.connections()))
            eventually(lambda: receiving(server) == 4 * (MEGABYTE - 1))
            half = bytes(MEGABYTE // 2)
            assert answered(server, head(MEGABYTE), half, half) == 200
            assert overloaded(crowd[0])  # the oldest
            for connection in crowd[1:]:
                connection.send(b"x")
                assert connection.response()[0] == 200
        assert receiving(server) == 0
        assert server.metric("headrace_requests_in_flight") == 0


def test_what_is_refused_before_its_body_takes_no_place_either(way: type[ExpressProtocol]) -> None:
    """The rest of a refused body is thrown away for a while, for the client to see why it was refused."""
    with HttpServer(Settings(max_in_flight=1, max_body_bytes=MEGABYTE), way) as server, ExitStack() as held:
        for _ in range(5):
            connection = held.enter_context(server.connect())
            connection.send(head(2 * MEGABYTE))
            assert connection.response()[0] == 413
        assert answered(server, head(9) + b"123456789") == 200


def test_a_client_that_leaves_its_body_incomplete_leaves_nothing_behind(way: type[ExpressProtocol]) -> None:
    with HttpServer(protocol=way) as server:
        teach(server, MEGABYTE)
        for farewell in ("close", "reset"):
            connection = server.connect()
            connection.send(head(MEGABYTE) + bytes(1000))
            eventually(lambda: receiving(server) == 1000)
            if farewell == "reset":
                connection.reset()
            else:
                connection.__exit__()
            eventually(lambda: receiving(server) == 0)
        eventually(lambda: server.metric("headrace_requests_in_flight") == 0)

"""Clients that go away while they wait, on both ways: nothing leaks, and what nobody can ask for is not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from producer_api.http.express_protocol import ExpressProtocol, protocol
from tests.e2e.http_server import HttpServer
from tests.helpers import eventually

CROWD = 100
WAYS: dict[str, type[ExpressProtocol]] = {
    "express": ExpressProtocol,
    "ordinary": protocol(_is_between_messages=lambda self: False),
}


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> type[ExpressProtocol]:
    return WAYS[request.param]


def ended(server: HttpServer, outcome: str) -> float:
    return server.metric("headrace_requests_total", model="echo", outcome=outcome)


@pytest.mark.parametrize("farewell", ["close", "reset"])
def test_a_crowd_that_goes_away_leaves_nothing_behind(way: type[ExpressProtocol], farewell: str) -> None:
    with HttpServer(protocol=way) as server:
        with server.connect() as first:
            first.post("echo", b"x")
            assert first.response()[0] == 200
        server.queue.hold()
        clients = [server.connect() for _ in range(CROWD)]
        for client in clients:
            client.post("echo", b"x")
        assert eventually(lambda: len(server.queue.submitted) == 1 + CROWD)
        for client in clients:
            if farewell == "reset":
                client.reset()
            else:
                client.__exit__()
        assert eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
        assert ended(server, "client_closed") == CROWD
        assert server.queue.catalogue().models["echo"].queued == 0
        server.release()
        with server.connect() as last:
            last.post("echo", b"y")
            assert last.response()[2]["outputs"][0]["data"] == list(b"y")
        assert ended(server, "ok") == 2


def test_what_has_an_id_of_the_clients_own_goes_on(way: type[ExpressProtocol]) -> None:
    with HttpServer(protocol=way) as server:
        server.queue.hold()
        request = (
            b"POST /v1/models/echo/predict?id=mine HTTP/1.1\r\nHost: test\r\n"
            b"Content-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx"
        )
        with server.connect() as client:
            client.send(request)
            assert eventually(lambda: len(server.queue.submitted) == 1)
        assert eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
        assert server.queue.catalogue().models["echo"].queued == 1
        server.release()
        with server.connect() as client:
            client.send(request)
            assert client.response()[2]["outputs"][0]["data"] == list(b"x")
        assert len(server.queue.submitted) == 1


def test_going_away_after_the_answer_is_no_disconnect(way: type[ExpressProtocol]) -> None:
    with HttpServer(protocol=way) as server:
        for _ in range(3):
            with server.connect() as client:
                for _ in range(2):
                    client.post("echo", b"x")
                    assert client.response()[0] == 200
        assert eventually(lambda: not server.connections())
        assert (ended(server, "ok"), ended(server, "client_closed")) == (6, 0)
        assert server.metric("headrace_requests_in_flight") == 0


class Endless:
    """Encodes an answer that never ends; counts how many were begun and given up."""

    def __init__(self) -> None:
        self.begun = self.closed = 0

    def __call__(self, *_: Any) -> Iterator[None]:
        self.begun += 1
        try:
            while True:
                yield
        finally:
            self.closed += 1


LARGE = bytes(300_000)


def test_who_goes_away_behind_a_large_body_is_noticed(way: type[ExpressProtocol]) -> None:
    with HttpServer(protocol=way) as server:
        server.queue.hold()
        for size in (1, 300_000, 3_000_000):
            before = ended(server, "client_closed")
            with server.connect() as client:
                client.post("echo", bytes(size))
                eventually(lambda: server.queue.catalogue().models["echo"].queued == 1)
            eventually(lambda before=before: ended(server, "client_closed") == before + 1)  # type: ignore[misc]
            assert server.metric("headrace_requests_in_flight") == 0
            assert server.queue.catalogue().models["echo"].queued == 0
        server.release()


def test_nobody_encodes_an_answer_for_who_is_gone(way: type[ExpressProtocol], monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer(protocol=way) as server:
        with server.connect() as first:
            first.post("echo", LARGE)
            assert first.response()[0] == 200
        endless = Endless()
        monkeypatch.setattr("producer_api.inference.native.encode_reply_in_steps", endless)
        with server.connect() as client:
            client.post("echo", LARGE)
            eventually(lambda: endless.begun == 1)
            assert endless.closed == 0
        eventually(lambda: endless.closed == 1)
        assert ended(server, "client_closed") == 1
        assert server.metric("headrace_requests_in_flight") == 0


def test_nor_one_that_was_asked_for_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer() as server:
        with server.connect() as first:
            first.send(
                b"POST /v1/models/echo/predict?id=mine HTTP/1.1\r\nHost: test\r\n"
                b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE)
            )
            assert first.response()[0] == 200
        endless = Endless()
        monkeypatch.setattr("producer_api.inference.native.encode_reply_in_steps", endless)
        with server.connect() as client:
            client.send(b"GET /v1/models/echo/requests/mine HTTP/1.1\r\nHost: test\r\n\r\n")
            eventually(lambda: endless.begun == 1)
            assert endless.closed == 0
        eventually(lambda: endless.closed == 1)
        monkeypatch.undo()
        assert server.get("/v1/models/echo/requests/mine")[0] == 200

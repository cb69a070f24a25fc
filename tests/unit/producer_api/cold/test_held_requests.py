"""Requests to a model whose card nobody knows yet, on the front end's real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from producer_api.load.cold_room import ColdRoom
from producer_api.load.cold_start import ColdStart
from producer_api.parsing.steps import LARGE_BYTES
from producer_api.queue.held import MOST_PER_TURN, HeldRequests
from producer_api.queue.interface import Catalogue, ModelState
from shared.settings import Settings
from shared.state.desired_state import Serving
from shared.wire.outcomes import DRAINING, EXPIRED, NO_WORKER, SHUTTING_DOWN, Outcome, RequestError
from tests.e2e.http_server import Connection, HttpServer
from tests.fakes import ECHO, InMemoryQueue, demo_queue, echo
from tests.helpers import eventually

COMING = ColdStart(7, True)


def cold_queue(cold: ColdStart | None = COMING) -> InMemoryQueue:
    queue = demo_queue()
    queue.serve("new", None, echo, workers=0)
    queue.set_cold("new", cold)
    return queue


def serve(server: HttpServer) -> None:
    """Let the model be served from now on, and the front end notice."""
    server.queue.serve("new", ECHO, echo, workers=1)
    server._loop.call_soon_threadsafe(server.queue.look)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer(Settings(default_timeout_ms=20_000), queue=cold_queue()) as server:
        yield server


def post(connection: Connection, body: bytes, kind: str, query: str = "", headers: str = "") -> None:
    head = f"POST /v1/models/new/predict{query} HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\n{headers}"
    connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


RAW = "application/octet-stream"
IN_JSON = json.dumps({"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 2], "data": [[1, 2]]}]}).encode()


def held(server: HttpServer) -> int:
    return server.queue.room.counts().get("new", 0)


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [(b"ab", RAW, ""), (IN_JSON, "application/json", ""), (b"ab", RAW, "Idempotency-Key: one\r\n")],
)
def test_they_go_on_when_the_card_is_known(server: HttpServer, body: bytes, kind: str, headers: str) -> None:
    with server.connect() as connection, server.connect() as other:
        for one in (connection, other):
            post(one, body, kind, headers=headers)
            eventually(lambda: held(server) > 0)
        eventually(lambda: held(server) == 2)
        assert server.queue.submitted == []
        assert server.metric("headrace_requests_in_flight") == 2
        serve(server)
        for one in (connection, other):
            status, _, answer = one.response()
            assert (status, answer["outputs"][0]["shape"]) == (200, [1, 2])
    assert (held(server), server.queue.room.held_bytes) == (0, 0)
    eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
    # What they may take began when they came.
    assert all(0 < request.ttl_ms <= 20_000 for request in server.queue.submitted)


def test_a_head_that_is_known_is_held_as_well(server: HttpServer) -> None:
    """The first request of a connection takes the ordinary way, the second the express way."""
    with server.connect() as connection:
        serve(server)
        post(connection, b"ab", RAW)
        assert connection.response()[0] == 200
        server.queue.serve("new", None, echo, workers=0)
        post(connection, b"ab", RAW)
        eventually(lambda: held(server) == 1)
        serve(server)
        assert connection.response()[0] == 200


def test_a_client_that_goes_away_frees_what_it_took(server: HttpServer) -> None:
    with server.connect() as connection:
        post(connection, bytes(1000), RAW)
        eventually(lambda: server.queue.room.held_bytes == 1000)
    eventually(lambda: (held(server), server.queue.room.held_bytes) == (0, 0))
    eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
    assert server.metric("headrace_requests_total", model="new", outcome="client_closed") == 1


@pytest.mark.parametrize(
    ("body", "kind", "query", "outcome"),
    [
        (b"ab", RAW, "?timeout_ms=6999", "loading"),
        (IN_JSON[:-1] + b', "parameters": {"timeout_ms": 6999}}', "application/json", "", "loading"),
        (b"ab", RAW, "?timeout_ms=none", "invalid_input"),
        (b"{", "application/json", "", "malformed"),
    ],
)
def test_what_cannot_wait_or_be_read_is_refused_at_once(
    server: HttpServer, body: bytes, kind: str, query: str, outcome: str
) -> None:
    with server.connect() as connection:
        post(connection, body, kind, query)
        status, headers, answer = connection.response()
        assert answer["error"]["code"] == outcome
        if outcome == "loading":
            assert (status, headers["retry-after"]) == (503, "7")
            assert "take 7 s, longer than the 6.999 s" in answer["error"]["message"]
    assert held(server) == 0


@pytest.mark.parametrize("timeout_ms", [6999, 7000])
@pytest.mark.parametrize("path", ["/v2/models/new/infer", "/v1/models/new:predict"])
def test_every_dialect_says_how_long_its_clients_wait(server: HttpServer, path: str, timeout_ms: int) -> None:
    tensor: Any = {"name": "input", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]}
    asked: Any = {"instances": [[1, 2]], "parameters": {"timeout_ms": timeout_ms}}
    if "infer" in path:
        asked = {"inputs": [tensor], "parameters": {"timeout": timeout_ms * 1000}}
    body = json.dumps(asked).encode()
    with server.connect() as connection:
        connection.send(f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        if timeout_ms == 7000:
            eventually(lambda: held(server) == 1)
            serve(server)
            assert connection.response()[0] == 200
        else:
            status, headers, answer = connection.response()
            assert (status, headers["retry-after"]) == (503, "7")
            assert "take 7 s, longer than the 6.999 s" in answer["error"]


def test_too_many_are_refused_with_the_wait(server: HttpServer) -> None:
    server.queue.room.most = 1
    with server.connect() as connection, server.connect() as other:
        post(connection, b"ab", RAW)
        eventually(lambda: held(server) == 1)
        post(other, b"ab", RAW)
        status, headers, answer = other.response()
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "overloaded", "7")
        serve(server)
        assert connection.response()[0] == 200


def test_a_card_that_does_not_take_the_body_refuses_it_then(server: HttpServer) -> None:
    with server.connect() as connection:
        post(connection, b"ab", "image/png")
        eventually(lambda: held(server) == 1)
        serve(server)
        status, _, answer = connection.response()
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")


def test_the_time_left_is_what_holds_when_it_goes_on(server: HttpServer) -> None:
    """A long body says too late how long its client waits: it goes on, and has ended."""
    count = LARGE_BYTES // 2
    data = b"[[" + b",".join([b"1"] * count) + b"]]"
    tensor = b'{"name":"input","datatype":"UINT8","shape":[1,%d],"data":%b}' % (count, data)
    body = b'{"inputs":[%b],"parameters":{"timeout_ms":1}}' % tensor
    with server.connect() as connection:
        post(connection, body, "application/json")
        eventually(lambda: held(server) == 1)
        serve(server)
        status, _, answer = connection.response()
        assert (status, answer["error"]["code"]) == (504, "expired")
    assert server.queue.submitted == []


def state(**what: object) -> ModelState:
    return ModelState("new", **{"card": None, "cold": COMING, **what})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("then", "outcome"),
    [
        (state(cold=None), NO_WORKER),
        (state(serving=Serving.DRAINING), DRAINING),
        (None, EXPIRED),
    ],
)
def test_how_a_wait_ends_without_a_consumer(then: ModelState | None, outcome: Outcome) -> None:
    ends: list[RequestError] = []

    async def main() -> None:
        ended = asyncio.Event()

        def refused(error: RequestError) -> None:
            ends.append(error)
            ended.set()

        room = ColdRoom(4, 4)
        requests, place = HeldRequests(room), room.enter("new", 3)
        assert place is not None
        requests.hold("new", place, 0.01 if then is None else 60.0, lambda: None, refused)
        requests.look(Catalogue({"new": state()}, redis_ok=True))
        requests.look(Catalogue(redis_ok=False))  # Redis is away for a moment
        assert ends == []
        if then is not None:
            requests.look(Catalogue({"new": then}, redis_ok=True))
        await ended.wait()
        assert (room.held_bytes, room.counts()) == (0, {"new": 0})

    asyncio.run(main())
    assert [end.outcome for end in ends] == [outcome]


def test_many_go_on_in_their_order_and_some_at_a_time_and_the_rest_is_refused_at_the_end() -> None:
    count = 2 * MOST_PER_TURN + 2  # one gives up, and one is left after two turns
    gone: list[int] = []
    ends: list[RequestError] = []

    async def main() -> None:
        room = ColdRoom(count, 1)
        requests = HeldRequests(room)
        give_ups = []
        for number in range(count):
            place = room.enter("new")
            assert place is not None
            give_ups.append(requests.hold("new", place, 60.0, partial(gone.append, number), ends.append))
        give_ups[1]()
        requests.look(Catalogue({"new": state(card=ECHO, workers=1)}, redis_ok=True))
        await asyncio.sleep(0)
        assert gone == [0, *range(2, MOST_PER_TURN + 1)]
        await asyncio.sleep(0)
        assert len(gone) == 2 * MOST_PER_TURN
        requests.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert gone == [0, *range(2, 2 * MOST_PER_TURN + 1)]
    assert [end.outcome for end in ends] == [SHUTTING_DOWN]

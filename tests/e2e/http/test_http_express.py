"""The express way against the real HTTP server: whatever is sent, it answers as the ordinary way does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_api.http.express import MOST_BYTES, KnownHead
from producer_api.http.express_protocol import MOST_COLLECTED_BYTES, ExpressProtocol, protocol
from shared.settings import Settings
from tests.e2e.http_server import Connection, HttpServer
from tests.fakes import demo_queue
from tests.helpers import eventually

RAW = "Content-Type: application/octet-stream\r\n"
PACKED = "Accept: application/msgpack\r\n"
TRACE = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
"""A request with this header always takes the ordinary way."""

TENSOR = b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]}]}'


class Watched(ExpressProtocol):
    """Notes what takes the express way, and how much waits for a client that does not read."""

    bodies: list[bytes]
    unread_bytes: list[int]

    def _begin(self, known: KnownHead, body: bytes) -> None:
        self.bodies.append(body)
        self.unread_bytes.append(self.transport.get_write_buffer_size())
        super()._begin(known, body)


def watched(**overrides: Any) -> type[Watched]:
    return type("Watched", (Watched,), {"bodies": [], "unread_bytes": [], **overrides})


def ordinary() -> type[ExpressProtocol]:
    return protocol(_is_between_messages=lambda self: False)


def post(body: bytes, headers: str = RAW, model: str = "echo", *, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\n\r\n"
    return head.encode() + body


def answer(connection: Connection) -> list[int]:
    status, _, body = connection.response()
    assert status == 200, body
    data: list[int] = body["outputs"][0]["data"]
    return data


def teach(server: HttpServer, *requests: bytes) -> None:
    """Have the server see the heads of these requests."""
    for request in requests:
        with server.connect() as connection:
            connection.send(request)
            connection.response()


def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    """A thousand kept connections would otherwise keep a thousand pictures."""
    with HttpServer() as server:
        teach(server, post(b"x"))
        with server.connect() as connection:
            connection.send(post(b"y"))
            assert answer(connection) == list(b"y")
            assert [one._under_way for one in server.connections()] == [None]


@pytest.fixture(scope="module")
def kind() -> type[Watched]:
    return watched()


@pytest.fixture(scope="module")
def running(kind: type[Watched]) -> Iterator[HttpServer]:
    with HttpServer(protocol=kind) as started:
        yield started


@pytest.fixture
def server(running: HttpServer, kind: type[Watched]) -> Iterator[HttpServer]:
    """One server for all tests that leave it running; nothing has taken the express way yet."""
    kind.bodies.clear()
    running.queue.submitted.clear()
    yield running
    running.release()
    assert eventually(lambda: running.metric("headrace_requests_in_flight") == 0)


# What the two ways answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"hello"), 200),
        (post(b"hello", RAW + PACKED), 200),
        (post(TENSOR, "Content-Type: application/json\r\n"), 200),
        (post(b'{"inputs": [[1, "x"]]}', "Content-Type: application/json\r\n"), 422),
        (post(b"{", "Content-Type: application/json\r\n"), 400),
        (post(b"", RAW), 422),
        (post(b"x", RAW, "nobody"), 404),
        (post(b"x", RAW + "Accept: text/html\r\n"), 406),
        (post(b"x", "Content-Type: text/plain\r\n"), 415),
        (post(b"x", RAW + "Content-Encoding: gzip\r\n"), 415),
        (post(b"x", RAW, "idle"), 503),
        (post(b"x", RAW, "broken"), 500),
    ],
)
def test_both_ways_give_the_same_answer(request_bytes: bytes, status: int) -> None:
    kind, queue = watched(), demo_queue()
    queue.serve("idle", queue.catalogue().models["echo"].card, lambda request: 1 / 0, workers=0)  # type: ignore[arg-type, return-value]
    queue.serve("broken", queue.catalogue().models["echo"].card, lambda request: 1 / 0)  # type: ignore[arg-type, return-value]
    with HttpServer(protocol=kind, queue=queue) as server, server.connect() as connection:
        found = []
        for one in (request_bytes, request_bytes, request_bytes.replace(b"Host: ", TRACE.encode() + b"Host: ")):
            connection.send(one)
            found.append(connection.response())
        assert len(kind.bodies) == 1
        first, second, third = ((one[0], names(one[1]), shape(one[2])) for one in found)
        assert first == second == third
        assert first[0] == status
        ids = {one[1]["x-request-id"] for one in found}
        assert len(ids) == 3


TWO_THINGS = {
    "Idempotency-Key": ("one", "another"),
    "Content-Type": ("application/octet-stream", "application/json"),
    "Content-Encoding": ("identity", "gzip"),
    "Origin": ("https://a.example", "https://b.example"),
    "Expect": ("100-continue", "something"),
}


@pytest.mark.parametrize("name", TWO_THINGS)
@pytest.mark.parametrize("is_express", [True, False])
@pytest.mark.parametrize("order", [1, -1])
def test_two_headers_that_say_different_things_are_refused(name: str, is_express: bool, order: int) -> None:
    plain = RAW if name != "Content-Type" else ""
    one, another = (f"{name}: {value}\r\n" for value in TWO_THINGS[name][::order])
    with HttpServer(protocol=watched() if is_express else ordinary()) as server:
        teach(server, post(b"x"), post(b"x", plain + one))
        for _ in range(2):
            with server.connect() as connection:
                connection.send(post(b"x", plain + one + "X-Between: 1\r\n" + another))
                status, _, body = connection.response()
            assert (status, body["error"]["code"], body["error"]["field"]) == (400, "malformed", name)
            assert body["error"]["message"] == f"There are two {name} headers, which say different things."
        with server.connect() as connection:
            connection.send(f"GET /v1/models HTTP/1.1\r\nHost: test\r\n{one}{another}\r\n".encode())
            assert connection.response()[0] == 400


@pytest.mark.parametrize("is_express", [True, False])
def test_headers_that_say_the_same_twice_are_one_and_lists_are_joined(is_express: bool) -> None:
    with HttpServer(protocol=watched() if is_express else ordinary()) as server, server.connect() as connection:
        for headers, media_type in (
            (RAW + RAW, "application/json"),
            (RAW + "Idempotency-Key: a\r\nIdempotency-Key: a\r\n", "application/json"),
            (RAW + "Accept: text/html\r\n" + PACKED, "application/msgpack"),
            (RAW + PACKED + "Accept: text/html\r\n", "application/msgpack"),
            (RAW + TRACE + TRACE.replace("-01", "-00"), "application/json"),
        ):
            for _ in range(2):
                connection.send(post(b"x", headers))
                status, found, _ = connection.response()
                assert (status, found["content-type"]) == (200, media_type)


def test_an_answer_by_id_is_in_what_any_of_two_accept_headers_names() -> None:
    with HttpServer() as server, server.connect() as connection:
        connection.send(post(b"x", RAW + "Idempotency-Key: a\r\n"))
        request_id = connection.response()[1]["x-request-id"]
        lines = "Host: test\r\nAccept: text/html\r\n" + PACKED
        connection.send(f"GET /v1/models/echo/requests/{request_id} HTTP/1.1\r\n{lines}\r\n".encode())
        status, headers, _ = connection.response()
    assert (status, headers["content-type"]) == (200, "application/msgpack")


def names(headers: dict[str, str]) -> list[tuple[str, str]]:
    """Header lines in their order; those that differ from answer to answer without their value."""
    return [(name, "" if name in ("content-length", "x-request-id") else value) for name, value in headers.items()]


def shape(body: Any) -> Any:
    """An answer without what differs from answer to answer."""
    if isinstance(body, bytes):
        body = msgpack.unpackb(body)
    if "timing" in body:
        return {**body, "timing": sorted(body["timing"]), "id": ""}
    if "error" in body:
        return {"error": {**body["error"], "id": ""}}
    return body


def test_both_ways_are_counted_alike() -> None:
    requests = [post(b"hello"), post(b"x" * 100, RAW + PACKED), post(b"", RAW), post(b"x", RAW, "nobody")]
    counted = []
    for kind in (watched(), ordinary()):
        with HttpServer(protocol=kind) as server, server.connect() as connection:
            for one in requests * 3:
                connection.send(one)
                connection.response()
            server.settle()
            text = server.get("/metrics")[2].decode()
            counted.append(
                sorted(
                    line
                    for line in text.splitlines()
                    if re.match(
                        r"headrace_(requests_total|requests_in_flight"
                        r"|http_request_duration_seconds_count|payload_bytes_(count|bucket))",
                        line,
                    )
                )
            )
            assert server.uvicorn.server_state.total_requests == 13
    assert counted[0] == counted[1]
    assert 'headrace_requests_total{model="echo",outcome="ok"} 6.0' in counted[0]


# How it comes


def test_a_request_may_be_cut_anywhere(server: HttpServer, kind: type[Watched]) -> None:
    request = post(b"the whole body")
    teach(server, request)
    kind.bodies.clear()
    with server.connect() as connection:
        for cut in range(1, len(request)):
            connection.send(request[:cut])
            server.settle()
            connection.send(request[cut:])
            assert bytes(answer(connection)) == b"the whole body"
    assert len(kind.bodies) == len(b"the whole body")  # a cut in the head is left to the parser


def test_a_body_may_come_byte_by_byte(server: HttpServer, kind: type[Watched]) -> None:
    request = post(b"0123456789")
    teach(server, request)
    kind.bodies.clear()
    with server.connect() as connection:
        connection.send(request[:-10])
        for byte in request[-10:]:
            server.settle()
            connection.send(bytes([byte]))
        assert bytes(answer(connection)) == b"0123456789"
    assert kind.bodies == [b"0123456789"]


def test_known_and_unknown_requests_in_one_piece_are_answered_in_order(server: HttpServer) -> None:
    known, page = post(b"known"), b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
    new = post(b"new", RAW + "X-New: 1\r\n")
    teach(server, known)
    for order in ([known, known], [known, page, known], [page, known, new], [new, known, page, known, known]):
        with server.connect() as connection:
            connection.send(b"".join(order))
            for one in order:
                status, _, body = connection.response()
                assert status == 200
                if one is not page:
                    assert bytes(body["outputs"][0]["data"]) == one[-len(body["outputs"][0]["data"]) :]


def test_what_comes_while_a_request_waits_is_answered_after_it(server: HttpServer, kind: type[Watched]) -> None:
    known, page = post(b"known"), b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
    teach(server, known)
    server.queue.hold()
    with server.connect() as connection:
        connection.send(known)
        server.settle()
        for piece in (known[:10], known[10:-2], known[-2:], page, known):
            connection.send(piece)
            server.settle()
        server.release()
        assert [connection.response()[0] for _ in range(4)] == [200] * 4
    assert kind.bodies[0] == b"known"


@pytest.mark.parametrize("garbage", [b"\0", b"GARBAGE\r\n\r\n", b"\r\nX", b"POST /v1/models/echo/predict HTTP/1.1\n\n"])
@pytest.mark.parametrize("apart", [True, False])
def test_garbage_after_a_known_request(server: HttpServer, garbage: bytes, apart: bool) -> None:
    known = post(b"known")
    teach(server, known)
    with server.connect() as connection:
        if apart:
            connection.send(known)
            assert connection.response()[0] == 200
            connection.send(garbage + b"\r\n\r\n")
        else:
            connection.send(known + garbage + b"\r\n\r\n")
            assert connection.response()[0] == 200
        status, headers, _ = connection.response()
        assert (status, headers["connection"]) == (400, "close")
        assert connection.closed()


def test_a_broken_request_behind_a_known_one_is_refused_by_itself(server: HttpServer, kind: type[Watched]) -> None:
    teach(server, post(b"known"))
    kind.bodies.clear()
    server.queue.hold()
    with server.connect() as connection:
        connection.send(post(b"known"))
        server.settle()
        connection.send(post(b"1234", RAW + "Transfer-Encoding: chunked\r\n"))
        server.release()
        assert bytes(answer(connection)) == b"known"
        status, headers, _ = connection.response()
        assert (status, headers["connection"]) == (400, "close")
        assert connection.closed()
    assert kind.bodies == [b"known"]


FRAGMENTS = [
    post(b"12345"),
    post(b"54321"),
    post(b""),
    post(b"12345", RAW + PACKED),
    post(b"12345", RAW + "Accept: text/html\r\n"),
    post(TENSOR, "Content-Type: application/json\r\n"),
    post(b"1", RAW, "echo/"),
    post(b"1", RAW, "%65cho"),
    post(b"1", RAW, "nobody"),
    post(b"1234", RAW).replace(b"/predict", b"/predict?timeout_ms=5000"),
    post(b"1234", RAW).replace(b"/predict", b"/predict?top_k=x"),
    post(b"1234", RAW).replace(b"/predict", b"/predict#a?b"),
    post(b"1234", RAW).replace(b" /v1", b" http://test/v1"),
    post(b"1234").replace(b"HTTP/1.1", b"HTTP/1.0"),
    post(b"1234", RAW + "Connection: close\r\n"),
    post(b"1234", RAW + "Connection: keep-alive\r\n"),
    post(b"1234", RAW + "Expect: 100-continue\r\n"),
    post(b"1234", RAW + RAW),
    post(b"1234", RAW + "Host: other\r\n"),
    post(b"1234", RAW + "Content-Length: 4\r\n"),
    post(b"1234", RAW + "Content-Length: 5\r\n"),
    post(b"1234", RAW + "X: a\r\n b\r\n"),
    post(b"1234", RAW + "X: a\0b\r\n"),
    post(b"1234", RAW + "Transfer-Encoding: chunked\r\n"),
    post(b"1234", RAW + "X: " + "a" * MOST_BYTES + "\r\n"),
    post(b"12", length=7),
    post(b"POST /v1/models/echo/predict"),
    post(post(b"12345")),
    post(b"", RAW).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
    b"\r\n",
    b"\0",
]


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[HttpServer, HttpServer]]:
    """A server with the express way and one without; the first one's patience never ends by itself."""
    with HttpServer(protocol=watched(patience_s=1000.0)) as one, HttpServer(protocol=ordinary()) as other:
        yield one, other


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_any_pieces_are_answered_alike(two: tuple[HttpServer, HttpServer], data: st.DataObject) -> None:
    sent = bytearray(b"".join(data.draw(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6), "fragments")))
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(sent) - 1), st.binary(min_size=1, max_size=1)), max_size=1), "flips"
    ):
        sent[place : place + 1] = byte
    cuts = sorted({0, len(sent), *data.draw(st.lists(st.integers(0, len(sent)), max_size=4), "cuts")})
    pieces = [bytes(sent[start:end]) for start, end in pairwise(cuts)]
    express, plain = (told(server, pieces) for server in two)
    assert express == plain


def told(server: HttpServer, pieces: list[bytes]) -> list[tuple[int, list[tuple[str, str]], Any]]:
    """Every answer to these pieces, and that the server is at rest afterwards."""
    with server.connect() as connection:
        for piece in pieces:
            try:
                connection.send(piece)
            except OSError:  # the server has closed
                break
            server.settle(30)
        server.hand_over()
        server.settle(300)
        answers = list(parsed(connection.rest()))
    assert eventually(lambda: server.metric("headrace_requests_in_flight") == 0)
    return answers


def parsed(stream: bytes) -> Iterator[tuple[int, list[tuple[str, str]], Any]]:
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers.get("content-length", 0))
        body, stream = stream[:size], stream[size:]
        if body:
            is_json = headers["content-type"] == "application/json"
            yield int(status.split()[1]), names(headers), shape(json.loads(body) if is_json else body)
        else:
            yield int(status.split()[1]), names(headers), None


# Limits


def test_the_number_in_flight_is_limited() -> None:
    kind = watched()
    with HttpServer(Settings(max_in_flight=1), kind) as server:
        teach(server, post(b"known"))
        server.queue.hold()
        with server.connect() as first, server.connect() as second:
            first.send(post(b"first"))
            server.settle()
            second.send(post(b"secon"))
            status, headers, body = second.response()
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "overloaded", "1")
            server.release()
            assert bytes(answer(first)) == b"first"
            second.send(post(b"third"))
            assert bytes(answer(second)) == b"third"
    assert len(kind.bodies) == 3


@pytest.mark.parametrize("size", [MOST_COLLECTED_BYTES + 1])
def test_large_bodies_in_pieces(size: int) -> None:
    kind = watched()
    with HttpServer(protocol=kind) as server, server.connect() as connection:
        request = post(bytes(size), RAW + PACKED)
        for _ in range(3):
            connection.send(request[: size // 2])
            server.settle()
            connection.send(request[size // 2 :])
            assert connection.response()[0] == 200
    assert len(kind.bodies) == (2 if size == MOST_COLLECTED_BYTES else 0)


def test_a_body_over_the_limit_is_never_collected() -> None:
    kind = watched()
    with HttpServer(Settings(max_body_bytes=1024), kind) as server, server.connect() as connection:
        for _ in range(3):
            connection.send(post(bytes(2000)))
            assert connection.response()[0] == 413
    assert kind.bodies == []


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    kind, size, most = watched(), 64 * 1024, 1000
    request = post(bytes(size), RAW + PACKED)
    with HttpServer(protocol=kind) as server:
        teach(server, request)
        with server.connect() as connection:
            sent = 0
            while not any(one.flow.read_paused for one in server.connections()):
                connection.send(request)
                server.settle(50)
                sent += 1
                assert sent < most
            assert [connection.response()[0] for _ in range(sent)] == [200] * sent
            connection.send(request)
            assert connection.response()[0] == 200
    assert len(kind.bodies) > sent // 2
    assert max(kind.unread_bytes) < 4 * size


def test_a_client_that_sends_everything_before_it_reads() -> None:
    request, count = post(bytes(64 * 1024), RAW + PACKED), 800
    with HttpServer() as server, server.connect() as connection:
        teach(server, request)
        sender = threading.Thread(target=lambda: connection.send(request * count), daemon=True)
        sender.start()
        assert [connection.response()[0] for _ in range(count)] == [200] * count
        sender.join()


# Time


def test_a_slow_body_ends_up_on_the_ordinary_way() -> None:
    kind = watched(patience_s=0.01)
    with HttpServer(protocol=kind) as server, server.connect() as connection:
        teach(server, post(b"12345"))
        connection.send(post(b"12", length=5))
        assert eventually(lambda: server.metric("headrace_receiving_bytes") == 2)
        assert eventually(lambda: all(one._partial is None for one in server.connections()))
        connection.send(b"345" + post(b"54321"))
        assert bytes(answer(connection)) == b"12345"
        assert bytes(answer(connection)) == b"54321"


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = watched()
    with HttpServer(protocol=kind) as server:
        monkeypatch.setattr(server.uvicorn.config, "timeout_keep_alive", 0.05)
        with server.connect() as connection:
            for _ in range(3):
                connection.send(post(b"x"))
                assert connection.response()[0] == 200
            assert connection.closed()
    assert len(kind.bodies) == 2


def test_a_connection_that_waits_for_its_answer_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer() as server:
        monkeypatch.setattr(server.uvicorn.config, "timeout_keep_alive", 0.02)
        with server.connect() as connection, server.connect() as clock:
            for _ in range(2):
                connection.send(post(b"x"))
                assert connection.response()[0] == 200
            server.queue.hold()
            connection.send(post(b"x"))
            clock.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert clock.response()[0] == 200
            assert clock.closed()  # idle for as long as the other has waited
            server.release()
            assert connection.response()[0] == 200


# The end


def test_clients_that_leave(server: HttpServer, kind: type[Watched]) -> None:
    known = post(b"12345")
    teach(server, known)
    server.queue.hold()
    for number in range(20):
        connection = server.connect()
        connection.send((known, known[:-2], known + known)[number % 3])
        server.settle()
        connection.reset()
    server.release()
    with server.connect() as connection:
        connection.send(known)
        assert bytes(answer(connection)) == b"12345"


@pytest.mark.parametrize("behind", [b"", post(b"known"), post(b"new", RAW + "X-New: 1\r\n"), post(b"known")[:-1]])
def test_stopping_answers_what_is_in_flight(behind: bytes) -> None:
    kind = watched()
    with HttpServer(protocol=kind) as server:
        teach(server, post(b"known"))
        server.queue.hold()
        with server.connect() as busy:
            busy.send(post(b"known"))
            server.settle()
            busy.send(behind)
            server.settle()
            server.stop()
            assert eventually(lambda: all(one._closing for one in server.connections()))
            server.release()
            last = busy.response()
            if behind:
                assert "connection" not in last[1]
                busy.send(b"n")
                last = busy.response()
            assert (last[0], last[1]["connection"]) == (200, "close")
            assert busy.closed()
        server.wait()
    assert kind.bodies[0] == b"known"


def test_what_has_not_ended_when_the_time_for_stopping_is_over() -> None:
    kind = watched()
    with HttpServer(protocol=kind) as server:
        teach(server, post(b"known"))
        server.queue.hold()
        with server.connect() as busy:
            busy.send(post(b"known"))
            assert eventually(lambda: len(server.queue.submitted) == 2)
            server.uvicorn.config.timeout_graceful_shutdown = 0
            server.stop()
            status, headers, body = busy.response()
            assert (status, body["error"]["code"], headers["connection"]) == (503, "shutting_down", "close")
            assert int(headers["retry-after"]) >= 1
            assert busy.closed()
    assert kind.bodies == [b"known"]

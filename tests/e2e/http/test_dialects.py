"""A dialect is one codec and one line in a table: two toys, asked on both ways at the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producer_api.http.express import KnownHead
from producer_api.http.express_protocol import ExpressProtocol
from producer_api.inference.codec import Codec, Decoded, Head, Limits, Response
from producer_api.inference.dialects import DIALECTS
from producer_api.parsing.steps import LARGE_BYTES, Steps
from shared.api_keys import digest_of
from shared.settings import Settings
from shared.state.cards import Card
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import NOT_ACCEPTABLE, RequestError, invalid, malformed
from tests.e2e.http_server import Connection, HttpServer

RAW = "application/octet-stream"
TRACE = ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",)
"""A request with this header takes the ordinary way, and so does the first with a head that nobody has seen."""


class Asked(msgspec.Struct):
    model: str
    texts: list[str]


class Texts(Codec):
    """The body names the model; an answer in JSON has the texts as the model returns them; an error is a sentence."""

    def answer_type(self, head: Head) -> str:
        if b"json" not in head.accept:
            raise RequestError(NOT_ACCEPTABLE, "Only JSON.")
        return "application/json"

    def body_kind(self, head: Head, card: Card) -> str:
        return head.content_type.decode()

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        yield
        return self._read(body).model

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        texts = self._read(body).texts
        if not texts:
            raise invalid("There is nothing to do.", "texts")
        message = Request(generated_id, limits.default_timeout_ms, RAW, "|".join(texts).encode())
        decoded = Decoded(message, True, asked=len(texts))
        return self._slowly(decoded) if len(body) > LARGE_BYTES else decoded

    def _slowly(self, made: Any) -> Steps[Any]:
        for _ in range(3):
            yield
        return made

    def _read(self, body: bytes) -> Asked:
        try:
            return msgspec.json.decode(body, type=Asked)
        except msgspec.MsgspecError:
            raise malformed("That is no question.") from None

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        assert reply.outputs is not None
        texts = bytes(reply.outputs[0].data).decode().split("|")
        assert len(texts) == asked
        headers = [(b"x-texts", b"%d" % asked)]
        response = Response(200, media_type, msgspec.json.encode({"texts": texts}), headers)
        return response if is_short or asked == 1 else self._slowly(response)

    def error(self, error: RequestError) -> Response:
        status = 400 if 400 <= error.outcome.status < 500 else 500
        return Response(status, "application/json", msgspec.json.encode({"sentence": error.message}))


class Rows(Texts):
    """The path names the model and its version."""

    def answer_type(self, head: Head) -> str:
        return "text/plain"

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        message = Request(generated_id, limits.default_timeout_ms, RAW, head.headers[b"x-start"] + body)
        return Decoded(message, True, asked=head.query)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        assert reply.outputs is not None
        return Response(200, media_type, asked + bytes(reply.outputs[0].data))


class Watched(ExpressProtocol):
    """Notes what takes the express way."""

    express_bodies: list[bytes]

    def _begin(self, known: KnownHead, body: bytes) -> None:
        self.express_bodies.append(body)
        super()._begin(known, body)


TEXTS, ROWS = "/toy/texts", "/toy/models/{model}/versions/{version}/rows"


@pytest.fixture
def kind() -> type[Watched]:
    return type("Watched", (Watched,), {"express_bodies": []})


@pytest.fixture
def server(kind: type[Watched]) -> Iterator[HttpServer]:
    dialects = {**DIALECTS, TEXTS: Texts(), ROWS: Rows()}
    with HttpServer(Settings(max_in_flight=1), kind, dialects=dialects) as started:
        yield started


def post(path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
    lines = ["Host: test", *headers, "Accept: application/json", f"Content-Length: {len(body)}", "", ""]
    return f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + body


def asked_both_ways(connection: Connection, path: str, body: bytes, headers: Sequence[str] = ()) -> Any:
    """The answer, which is the same whether the head is new, known, or for the ordinary way only."""
    found = []
    for more in ((), (), TRACE):
        connection.send(post(path, body, (*headers, *more)))
        status, names, answer = connection.response()
        assert len(names.pop("x-request-id")) == 24
        found.append((status, list(names.items()), answer))
    assert found[0] == found[1] == found[2]
    return found[0]


@pytest.mark.parametrize("count", [1, 3, 40_000])
def test_the_body_may_name_the_model(server: HttpServer, kind: type[Watched], count: int) -> None:
    texts = [f"t{number}" for number in range(count)]
    body = json.dumps({"model": "echo", "texts": texts}).encode()
    with server.connect() as connection:
        status, headers, answer = asked_both_ways(connection, TEXTS, body)
    assert (status, answer) == (200, {"texts": texts})
    assert ("x-texts", str(count)) in headers and ("x-content-type-options", "nosniff") in headers
    assert kind.express_bodies == [body]
    assert server.metric("headrace_requests_total", model="echo", outcome="ok") == 3
    assert server.metric("headrace_http_request_duration_seconds_count", route=TEXTS, code="2xx") == 3


@pytest.mark.parametrize(
    ("document", "status", "sentence", "model", "outcome"),
    [
        ({"model": "echo", "texts": []}, 400, "There is nothing to do.", "echo", "invalid_input"),
        ({"model": "nobody", "texts": ["a"]}, 400, "There is no model 'nobody'", "unknown", "unknown_model"),
        ({"model": "idle", "texts": ["a"]}, 500, "No consumer is running", "idle", "no_worker"),
        ({"texts": ["a"]}, 400, "That is no question.", "unknown", "malformed"),
    ],
)
def test_errors_have_the_shape_of_the_dialect_and_are_counted(
    server: HttpServer, kind: type[Watched], document: Any, status: int, sentence: str, model: str, outcome: str
) -> None:
    server.queue.serve("idle", server.queue.catalogue().models["echo"].card, lambda request: 1 / 0, workers=0)  # type: ignore[arg-type, return-value]
    with server.connect() as connection:
        found, headers, answer = asked_both_ways(connection, TEXTS, json.dumps(document).encode())
    assert found == status and answer["sentence"].startswith(sentence)
    assert ("cache-control", "no-store") in headers
    assert dict(headers).get("retry-after") == ("1" if outcome == "no_worker" else None)
    assert len(kind.express_bodies) == 1
    assert server.metric("headrace_requests_total", model=model, outcome=outcome) == 3
    assert server.metric("headrace_requests_in_flight") == 0


def test_a_path_may_name_more_than_the_model(server: HttpServer, kind: type[Watched]) -> None:
    path = "/toy/models/echo/versions/1/rows?a=b"
    with server.connect() as connection:
        status, headers, answer = asked_both_ways(connection, path, b"body", ["X-Start: some "])
        assert (status, answer) == (200, b"a=bsome body") and ("content-type", "text/plain") in headers
        status, _, answer = asked_both_ways(connection, path.replace("1", "2"), b"body", ["X-Start: some "])
        assert (status, answer) == (400, {"sentence": "Model 'echo' has no version '2'; it has 1."})
    assert len(kind.express_bodies) == 2


def test_whoever_names_a_model_in_the_body_takes_one_of_the_places_too(server: HttpServer) -> None:
    body = b'{"model": "echo", "texts": ["a"]}'
    with server.connect() as first, server.connect() as second:
        asked_both_ways(second, TEXTS, body)
        server.queue.hold()
        first.send(post(TEXTS, body))
        server.settle()
        for _ in range(2):
            second.send(post(TEXTS, body))
            status, headers, answer = second.response()
            assert (status, headers["retry-after"]) == (500, "1")
            assert answer == {"sentence": "This front end already has 1 requests waiting."}
        server.release()
        assert first.response()[0] == 200


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_comes_in_pieces_is_answered_alike(server: HttpServer, pieces: int) -> None:
    body = b'{"model": "echo", "texts": ["abc"]}'
    request = post(TEXTS, body, TRACE)
    with server.connect() as connection:
        for part in (request[: -pieces * 5], request[-pieces * 5 :]):
            connection.send(part)
            server.settle()
        assert connection.response()[::2] == (200, {"texts": ["abc"]})


def test_what_the_router_refuses_has_the_shape_of_the_dialect(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.send(f"GET {TEXTS} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        status, headers, answer = connection.response()
        assert (status, headers["allow"], answer) == (400, "POST", {"sentence": f"{TEXTS} takes POST."})
        connection.send(b"GET /toy/nothing HTTP/1.1\r\nHost: test\r\n\r\n")
        assert connection.response()[2]["error"]["code"] == "not_found"


def test_a_missing_key_is_told_in_the_shape_of_the_dialect_too(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{digest_of(b"hr_alice").hex()}"\n')
    keys.chmod(0o600)
    body = b'{"model": "echo", "texts": ["a"]}'
    settings = Settings(keys_file=str(keys))
    with HttpServer(settings, dialects={TEXTS: Texts()}) as server, server.connect() as connection:
        assert asked_both_ways(connection, TEXTS, body, ["Authorization: Bearer hr_alice"])[0] == 200
        for _ in range(2):
            connection.send(post(TEXTS, body))
            status, headers, answer = connection.response()
            assert (status, headers["www-authenticate"], list(answer)) == (400, "Bearer", ["sentence"])


def test_a_media_type_that_is_not_offered_is_refused_before_the_body_is_read(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.send(f"POST {TEXTS} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n".encode())
        status, headers, answer = connection.response()
        assert (status, headers["connection"], answer) == (400, "close", {"sentence": "Only JSON."})

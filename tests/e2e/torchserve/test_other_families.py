"""/predictions for models that are no handlers, against the real HTTP server over an in-memory queue."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumer.models.base import RAW, Result
from shared.api_keys import digest_of
from shared.settings import Settings
from shared.state.cards import HANDLED, TensorSpec
from shared.wire.generation import CONTENT_TYPE as GENERATE
from shared.wire.messages import Prediction, Request, Tensor
from tests.e2e.http_server import HttpServer
from tests.fakes import CLASSIFIER, ECHO, InMemoryQueue, card, classify, echo

PNG = b"\x89PNG\r\n\x1a\n"
PAIR = TensorSpec("pair", "FP32", (2,))
FORM = "multipart/form-data; boundary=xx"


def _mood(request: Request) -> Result:
    text = request.body or (request.inputs or ())[0].data[4:]
    return Result(predictions=[Prediction(text.decode(), 0, 0.75), Prediction("sad", 1, 0.25)])


def _sum(request: Request) -> Result:
    """Return the input as it is, of as many rows as it has."""
    shape, data = (1, 2), request.body or b""
    if request.inputs:
        shape, data = request.inputs[0].shape, request.inputs[0].data  # type: ignore[assignment]
    return Result(outputs=(Tensor("pair", "FP32", shape, data),))


def _handler(request: Request) -> Result:
    """Return the content type that came as that of the answer, whatever it is."""
    said = (request.content_type or "").encode()
    parts = ((request.body or b""), said)
    return Result(
        outputs=[
            Tensor(spec.name, "BYTES", (1,), len(part).to_bytes(4, "little") + part)
            for spec, part in zip(HANDLED, parts, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    """Serves a model of each kind."""
    queue, text = InMemoryQueue(), TensorSpec("text", "BYTES", ())
    queue.serve("imagenet", CLASSIFIER, classify)
    queue.serve("echo", ECHO, echo)
    queue.serve("mood", card("mood", [text], content_types=()), _mood)
    queue.serve("plain", card("plain", [text], content_types=("text/plain",)), _mood)
    queue.serve("pair", card("pair", [PAIR]), _sum)
    queue.serve("two", card("two", [PAIR, text]), _sum)
    queue.serve("writer", card("writer", [], content_types=(GENERATE,)), echo)
    queue.serve("handler", msgspec.structs.replace(card("handler", [text]), outputs=HANDLED), _handler)
    with HttpServer(queue=queue) as running:
        yield running


def _ask(
    server: HttpServer, path: str, body: bytes, content_type: str = "", method: str = "POST", **headers: str
) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        said = {"Content-Type": content_type} if content_type else {}
        connection.request(method, path, body, {**said, **headers})
        answer = connection.getresponse()
        content = answer.read()
        kind = answer.headers["Content-Type"]
        return answer.status, kind, json.loads(content) if kind == "application/json" else content
    finally:
        connection.close()


def _form(**fields: bytes) -> bytes:
    parts = [
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in fields.items()
    ]
    return b"".join([*parts, b"--xx--\r\n"])


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_classifier_answers_probabilities_by_labels(server: HttpServer, method: str) -> None:
    for _ in range(3):  # the express way knows the head from the third time on
        status, _, answer = _ask(server, "/predictions/imagenet", PNG + b"1", "", method)
        assert status == 200
        assert len(answer) >= 1
        assert all(isinstance(score, float) for score in answer.values())
    assert _ask(server, "/predictions/imagenet/1", _form(data=PNG), FORM)[2].keys() == answer.keys()


def test_texts_vectors_and_rows(server: HttpServer) -> None:
    for model in ("mood", "plain"):
        assert _ask(server, f"/predictions/{model}", b"glad")[2] == {"glad": 0.75, "sad": 0.25}
        assert _ask(server, f"/predictions/{model}", _form(data=b"glad"), FORM)[2] == {"glad": 0.75, "sad": 0.25}
    assert _ask(server, "/predictions/pair", b"[1, 2.5]")[2] == [1.0, 2.5]
    assert _ask(server, "/predictions/pair", b'{"pair": [1, 2.5]}', "application/json")[2] == [1.0, 2.5]
    asked = b'{"instances": [[1, 2], [3, 4]]}'
    assert _ask(server, "/predictions/pair", asked, "application/json")[2] == [[1.0, 2.0], [3.0, 4.0]]
    assert _ask(server, "/predictions/echo", b"\x01\x02", RAW)[2] == [1, 2]


def test_long_bodies(server: HttpServer) -> None:
    body = bytes(300_000)
    assert _ask(server, "/predictions/echo", body, RAW)[2] == [0] * len(body)
    rows = [[1.0, 2.0]] * 50_000
    assert _ask(server, "/predictions/echo", _form(data=body), FORM)[0] == 200
    status, _, answer = _ask(server, "/predictions/pair", json.dumps({"instances": rows[:8]}).encode())
    assert (status, answer) == (200, rows[:8])
    status, _, answer = _ask(server, "/predictions/pair", json.dumps({"instances": rows}).encode())
    assert (status, answer["type"]) == (422, "BadRequestException")


@pytest.mark.parametrize(
    ("model", "body", "content_type", "status", "said"),
    [
        ("imagenet", b"no picture", "image/jpeg", 422, "This is not a JPEG, PNG or WebP file"),
        ("imagenet", b"no picture", "", 422, "This is not a JPEG, PNG or WebP file"),
        ("imagenet", b"", "", 422, "The body is empty."),
        ("imagenet", b"x", FORM, 400, "does not begin with its boundary"),
        ("imagenet", _form(), FORM, 422, "The body is empty."),
        ("imagenet", _form(data=PNG, body=PNG), FORM, 422, "send it as the field data"),
        ("pair", b"[1, 2", "application/json", 400, "The body is not valid JSON."),
        ("pair", b"[1]", "application/json", 422, "instances"),
        ("pair", b"\0\0\xc0\x7f\0\0\0\0", RAW, 422, "NaN or an infinity"),
        ("pair", b"123", RAW, 422, "not a multiple"),
        ("mood", b"\xff", "", 422, "The text is not UTF-8."),
        ("two", b"hello", RAW, 422, "several inputs"),
        ("writer", b"Once", "text/plain", 422, "ask it at /v1/completions"),
        ("handler", b"", "", 422, "The body is empty."),
        ("nobody", b"x", "", 404, "There is no model 'nobody'"),
    ],
)
def test_what_is_refused(
    server: HttpServer, model: str, body: bytes, content_type: str, status: int, said: str
) -> None:
    found, kind, answer = _ask(server, f"/predictions/{model}", body, content_type)
    assert (found, kind, answer["code"]) == (status, "application/json", status), answer
    assert set(answer) == {"code", "type", "message"}
    assert said in answer["message"]


def test_a_content_type_that_would_split_the_head_is_not_sent(server: HttpServer) -> None:
    assert _ask(server, "/predictions/handler", b"a,b", "text/csv")[1:] == ("text/csv", b"a,b")
    assert _ask(server, "/predictions/handler", b"a,b", "no type")[1:] == (RAW, b"a,b")
    assert _ask(server, "/predictions/handler", b"{}", "", **{"Content-Encoding": "gzip"})[0] == 415


def test_keys_are_asked_for_in_torchserves_shape(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.alice]\nsha256 = "{digest_of(b"hr_alice").hex()}"\n')
    with HttpServer(replace(Settings(), keys_file=str(file)), queue=_one()) as server:
        status, _, answer = _ask(server, "/predictions/imagenet", PNG)
        assert (status, answer["code"], answer["type"]) == (401, 401, "BadRequestException")
        assert _ask(server, "/ping", b"", method="GET")[2] == {"status": "Healthy"}


def _one() -> InMemoryQueue:
    queue = InMemoryQueue()
    queue.serve("imagenet", CLASSIFIER, classify)
    return queue

"""Bad input at OpenAI's paths of a running stack: one clear error each, while a stream of somebody else goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_chat import raw, said
from tests.e2e.openai.test_streams import OPEN, Events, asked, whole

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"


@pytest.fixture(scope="module", autouse=True)
def bystander(place: Place) -> Iterator[None]:
    """Somebody else's stream, which notices nothing."""
    stream, is_over = Events(place, asked(place.slow, 4000)), threading.Event()

    def read() -> None:
        while not is_over.is_set():
            assert stream.next() is not None

    reading = threading.Thread(target=read)
    reading.start()
    yield
    is_over.set()
    reading.join()
    assert stream.text and stream.text == whole(len(stream.text))
    stream.close()
    OPEN.clear()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the streams of a test in its end."""
    before = len(OPEN)
    yield
    while len(OPEN) > before:
        OPEN.pop().close()


@pytest.mark.parametrize(
    ("path", "document", "param"),
    [
        (CHAT, {"messages": said("x" * 5000)}, "messages"),
        (CHAT, {"messages": said("x" * 4000), "max_tokens": 1000}, "max_tokens"),
        (COMPLETIONS, {"prompt": "x" * 5000}, "prompt"),
        (COMPLETIONS, {"prompt": [120] * 5000}, "prompt"),
        (RESPONSES, {"input": "x" * 5000}, "input"),
        (RESPONSES, {"input": "x" * 4000, "max_output_tokens": 1000}, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_longer_than_the_context(place: Place, path: str, document: dict[str, Any], param: str, stream: bool) -> None:
    status, body = raw(place, path, {"model": place.writer, "stream": stream, **document})
    assert status == 400, body
    error = body["error"]
    assert (error["code"], error["param"], error["type"]) == (
        "context_length_exceeded",
        param,
        "invalid_request_error",
    )
    assert "4096" in error["message"] and "50" in error["message"]


@pytest.mark.parametrize("most", [0, -1, 10**9, 2**63, 10**30, 1.5, "many"])
def test_most_tokens_that_make_no_sense(place: Place, most: Any) -> None:
    for path, name, document in (
        (CHAT, "max_tokens", {"messages": said("a")}),
        (CHAT, "max_completion_tokens", {"messages": said("a")}),
        (COMPLETIONS, "max_tokens", {"prompt": "a"}),
        (RESPONSES, "max_output_tokens", {"input": "a"}),
    ):
        status, body = raw(place, path, {"model": place.writer, name: most, **document})
        assert status == 400, (path, body)
        expected = {name, "max_tokens"} if path == CHAT else {name}
        assert body["error"]["param"] in expected, (path, body)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"a\\udc00b", b"\x00"])
def test_texts_that_are_no_texts(place: Place, text: bytes) -> None:
    for path, member in (
        (CHAT, b'"messages": [{"role": "user", "content": "%b"}]'),
        (COMPLETIONS, b'"prompt": "%b"'),
        (RESPONSES, b'"input": "%b"'),
        (EMBEDDINGS, b'"input": ["fine", "%b"]'),
        ("/embed", b'"inputs": "%b"'),
        ("/rerank", b'"query": "a", "texts": ["%b"]'),
    ):
        model = place.writer if path in (CHAT, COMPLETIONS, RESPONSES) else place.letters
        body = b'{"model": "%b", %b}' % (model.encode(), member % text)
        status, answer = raw(place, path, body)
        assert status == 400, (path, answer)
        message = answer["error"]["message"] if isinstance(answer["error"], dict) else answer["error"]
        assert "not valid JSON" in message, (path, answer)


def test_a_long_list_with_a_text_that_is_none(place: Place) -> None:
    texts = b", ".join([b'"%d %b"' % (n, b"word " * 100) for n in range(600)])
    for bad in (b"\xff", b"\\ud83d"):
        body = b'{"model": "%b", "input": [%b, "%b"]}' % (place.letters.encode(), texts, bad)
        status, answer = raw(place, EMBEDDINGS, body)
        assert status == 400, answer


def test_a_text_that_ends_within_a_character(place: Place) -> None:
    """Three of four tokens of the last one: what is there is said as a replacement character, whole and streamed."""
    for stream in (False, True):
        document: Any = {"model": place.slow, "messages": said("a🙂🙂"), "max_tokens": 8, "temperature": 0}
        if stream:
            made = Events(place, {**document, "stream": True})
            assert (made.rest(), made.finish) == ("a🙂�", "length")
        else:
            status, body = raw(place, CHAT, document)
            assert (status, body["choices"][0]["message"]["content"]) == (200, "a🙂�")


def test_no_half_of_a_character_is_ever_sent(place: Place) -> None:
    document: Any = {"model": place.slow, "messages": said("🙂☃é"), "max_tokens": 27, "temperature": 0, "stream": True}
    stream = Events(place, document)
    while (event := stream.next()) is not None:
        for choice in event["choices"]:
            assert set(choice["delta"].get("content") or "") <= set("🙂☃é")
    assert stream.text == "🙂☃é" * 3


@pytest.mark.parametrize("place_of", ["0.999999", "999.1", "999999999.999999999"])
def test_a_reconnect_to_a_place_that_never_was(place: Place, place_of: str) -> None:
    name = f"never-{place_of}"
    key = {"Idempotency-Key": name}
    for _ in "ab":  # while it runs, and when all of it is stored
        stream = Events(place, asked(place.slow, 40), key)
        stream.next()
        again = Events(place, asked(place.slow, 40), {**key, "Last-Event-ID": place_of})
        assert again.status == 400
        error = again.error()
        assert (error["code"], error["param"]) == ("malformed", "Last-Event-ID")
        assert stream.rest() == whole(40)


@pytest.mark.parametrize(
    "given", ["", "1", "-1.2", "1.2.3", "1e3.4", "0x1.2", "9" * 50 + ".1", "1.2; DROP", "a" * 5000]
)
def test_a_reconnect_with_no_place(place: Place, given: str) -> None:
    headers = {"Idempotency-Key": "no-place", "Last-Event-ID": given.encode().decode("latin-1")}
    stream = Events(place, asked(place.slow, 10), headers)
    assert stream.status == 400
    assert stream.error()["param"] == "Last-Event-ID"


def test_a_reconnect_without_a_stream(place: Place) -> None:
    headers = {"Idempotency-Key": "no-stream", "Last-Event-ID": "0.1"}
    answer = Events(place, asked(place.slow, 10, stream=False), headers)
    assert answer.status == 400
    assert answer.error()["param"] == "Last-Event-ID"


def test_a_reconnect_after_the_answer_is_gone(place: Place, valkey_url: str) -> None:
    key = {"Idempotency-Key": f"gone-{place.slow}"}
    stream = Events(place, asked(place.slow, 20), key)
    assert stream.rest() == whole(20)
    with connect(valkey_url) as client:
        names = [made(place.slow, keys.DEFAULT_LANE, stream.request_id) for made in (keys.reply, keys.record)]
        assert client.delete(*names)  # as when their time is over
    again = Events(place, asked(place.slow, 20), {**key, "Last-Event-ID": stream.last_id})
    assert again.status == 404
    error = again.error()
    assert (error["code"], error["param"]) == ("unknown_request", "Last-Event-ID")
    assert "Ask again without Last-Event-ID" in error["message"]


def test_what_is_asked_differently_under_the_same_key(place: Place) -> None:
    key = {"Idempotency-Key": f"other-{place.slow}"}
    stream = Events(place, asked(place.slow, 20), key)
    stream.next()
    other = Events(place, asked(place.slow, 21), {**key, "Last-Event-ID": "0.1"})
    assert (other.status, other.error()["code"]) == (422, "key_reused") or other.status == 400
    assert stream.rest() == whole(20)


def test_bodies_that_are_no_request(place: Place) -> None:
    deep = b'{"model": "x", "messages": ' + b"[" * 100_000
    for body in (b"", b"{", b"null", b"[]", b'"a"', deep, b"\xff", json.dumps({"messages": said("a")}).encode()):
        for path in (CHAT, COMPLETIONS, RESPONSES):
            status, answer = raw(place, path, body)
            assert status == 400 and answer["error"]["message"], (path, body[:40], answer)

"""Streams when something goes wrong: consumers that are killed, clients that leave, come again or read slowly."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_chat import said
from tests.e2e.stack import call
from tests.helpers import eventually

TEXT = "The sentence goes on. "


OPEN: list[Events] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close all streams in the end."""
    yield
    while OPEN:
        OPEN.pop().close()


class Events:
    """One stream, read event by event from a socket."""

    def __init__(self, place: Place, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(place.stack.url.removeprefix("http://"), timeout=30)
        head = {"Content-Type": "application/json", **(headers or {})}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(document), head)
        self._answer = self._connection.getresponse()
        self.status, self.last_id, self.text = self._answer.status, "", ""
        self.finish: str | None = None
        self.request_id = self._answer.headers["x-request-id"]
        OPEN.append(self)

    def error(self) -> Any:
        """The document of an error."""
        return json.loads(self._answer.read())["error"]

    def next(self) -> dict[str, Any] | None:
        """The next event's document; None at the end."""
        event_id = ""
        while line := self._answer.readline():
            if line.startswith(b"id: "):
                event_id = line[4:].strip().decode()
            elif line.startswith(b"data: "):
                if line.strip() == b"data: [DONE]":
                    return None
                document: dict[str, Any] = json.loads(line[6:])
                self._take(document, event_id)
                return document
        raise EOFError("the stream ended without [DONE]")

    def _take(self, document: dict[str, Any], event_id: str) -> None:
        self.last_id = event_id or self.last_id
        for choice in document.get("choices", ()):
            self.text += choice["delta"].get("content") or ""
            self.finish = choice["finish_reason"] or self.finish

    def rest(self) -> str:
        """Read it to its end; the whole text."""
        while self.next() is not None:
            pass
        return self.text

    def close(self) -> None:
        """Leave."""
        self._answer.close()
        self._connection.close()


def asked(model: str, count: int, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": said(TEXT), "max_tokens": count, "temperature": 0, "stream": True, **more}


def whole(count: int) -> str:
    return (TEXT * (count // len(TEXT) + 1))[:count]


def test_many_streams_at_once(place: Place) -> None:
    found: list[str] = []

    def read() -> None:
        found.append(Events(place, asked(place.slow, 60)).rest())

    threads = [threading.Thread(target=read) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [whole(60)] * 24


@pytest.mark.soak  # 32 streams are taken over in tests/fault/generating
def test_a_consumer_that_is_killed_in_the_middle(place: Place) -> None:
    streams = [Events(place, asked(place.slow, 200)) for _ in range(8)]
    for stream in streams:
        while len(stream.text) < 10:
            stream.next()
    place.stack.start_consumer(place.slow)  # a second one
    place.slow_consumer.popen.kill()
    assert [stream.rest() for stream in streams] == [whole(200)] * 8
    assert {stream.finish for stream in streams} == {"length"}


def test_a_client_that_leaves_frees_its_slot(place: Place) -> None:
    stream = Events(place, asked(place.single, 4000))  # it would take 80 s
    while len(stream.text) < 5:
        stream.next()
    stream.close()
    assert Events(place, asked(place.single, 5)).rest() == whole(5)


def test_two_steps_after_a_client_has_left_its_slot_is_free(place: Place) -> None:
    """A token is the number of its step; a step has nothing to do with how long anything takes here."""
    place.stack.start_consumer(place.counted, "tests.e2e.openai.counting")
    eventually(lambda: call(f"{place.stack.url}/v1/models/{place.counted}").status == 200)
    for _ in range(2):
        stream, waiting = Events(place, asked(place.counted, 4000)), list[Events]()
        thread = threading.Thread(target=lambda to=waiting: to.append(Events(place, asked(place.counted, 1))))
        while len(stream.text.split()) < 2:
            stream.next()
        thread.start()
        before = stream.text
        while stream.text == before:
            stream.next()
        last = int(stream.text.split()[-1])
        stream.close()
        thread.join()
        assert int(waiting[0].rest()) - last <= 3  # two steps more, and then its own


def test_a_client_comes_again_and_goes_on(place: Place) -> None:
    key = {"Idempotency-Key": f"again-{place.slow}"}
    stream = Events(place, asked(place.slow, 100), key)
    while len(stream.text) < 30:
        stream.next()
    begin, last_id = stream.text, stream.last_id
    stream.close()
    again = Events(place, asked(place.slow, 100), {**key, "Last-Event-ID": last_id})
    assert begin + again.rest() == whole(100)
    late = Events(place, asked(place.slow, 100), {**key, "Last-Event-ID": last_id})  # when all of it is stored
    assert begin + late.rest() == whole(100)
    assert Events(place, asked(place.slow, 100), key).rest() == whole(100)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Idempotency-Key": "never-asked", "Last-Event-ID": "3.12"}, 404),
        ({"Idempotency-Key": "never-asked", "Last-Event-ID": "soon"}, 400),
        ({"Last-Event-ID": "3.12"}, 400),
    ],
)
def test_what_cannot_be_gone_on_with(place: Place, headers: dict[str, str], status: int) -> None:
    stream = Events(place, asked(place.slow, 10), headers)
    assert stream.status == status
    assert stream.error()["param"] == "Last-Event-ID"


def test_a_client_that_reads_slowly_disturbs_nobody(place: Place) -> None:
    host, port = place.stack.url.removeprefix("http://").split(":")
    body = json.dumps(asked(place.writer, 4000)).encode()
    with socket.create_connection((host, int(port))) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        slow.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(20):
            assert slow.recv(1)
            assert Events(place, asked(place.writer, 20)).rest() == whole(20)


def test_the_answer_is_sent_as_it_is_made(place: Place) -> None:
    stream = Events(place, asked(place.slow, 200))
    while not stream.text:
        stream.next()
    assert len(stream.text) < 100  # the rest does not exist yet
    stream.close()


def test_the_stock_client_leaves_a_stream(place: Place) -> None:
    with place.client.chat.completions.create(**asked(place.slow, 4000)) as stream:
        for index, _ in enumerate(stream):
            if index == 3:
                break
    with pytest.raises(openai.NotFoundError):
        place.client.chat.completions.create(**asked("nobody", 5))

"""A client of later requests for these tests, and the stack that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Stack

Event = tuple[str, str, dict[str, Any]]
RAW = "application/octet-stream"


class Got(Struct, frozen=True):
    """One response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """Asks a stack's front end, on a new connection each time."""

    def __init__(self, stack: Stack, key: str = "") -> None:
        self._stack, self._key = stack, key

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Got:
        """Send one request; an underscore in the name of a header stands for a hyphen."""
        connection = HTTPConnection(urlsplit(self._stack.url).netloc, timeout=30)
        try:
            connection.request(method, path, body, self._given(headers))
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, named, answer.read())
        finally:
            connection.close()

    def _given(self, headers: Mapping[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return {**given, "Authorization": f"Bearer {self._key}"} if self._key else given

    def ask(self, model: str, body: bytes = b"\1\2\3\4", query: str = "", **headers: str) -> Got:
        """Ask a model to answer later."""
        given = {"Prefer": "respond-async", "Content_Type": RAW, **headers}
        return self.send("POST", f"/v1/models/{model}/predict{query}", body, **given)

    @contextmanager
    def events(self, location: str, **headers: str) -> Iterator[Iterator[Event]]:
        """Listen to a request's events: of each its id, its name, and what is in it besides id, model and address."""
        connection = HTTPConnection(urlsplit(self._stack.url).netloc, timeout=30)
        try:
            connection.request("GET", f"{location}/events", headers=self._given(headers))
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream")
            yield _events(answer)
        finally:
            connection.close()


def _events(answer: HTTPResponse) -> Iterator[Event]:
    found: dict[str, str] = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and value:
            found[name] = value
        elif "event" in found:
            data = json.loads(found["data"])
            assert data["status"] == found["event"]
            rest = {member: data[member] for member in data if member not in ("id", "model", "status", "location")}
            yield found["id"], found["event"], rest
            found = {}


def workers_are(redis_url: str, model: str, serving: str) -> bool:
    """Say whether all consumers of a model have heard that they are paused, or open."""
    with connect(redis_url) as client:
        names: Any = client.zrange(keys.workers(model), 0, -1)
        said: Any = [client.hget(keys.worker(model, name.decode()), "serving") for name in names]
    return bool(said) and all(one == serving.encode() for one in said)


def pause(redis_url: str, model: str, serving: str = "paused") -> None:
    """Have a model's consumers claim nothing, or, with ``open``, go on."""
    with connect(redis_url) as client:
        client.hset(keys.desired_state(model), "serving", serving)
        client.pexpire(keys.desired_state(model), 600_000)

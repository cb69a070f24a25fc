"""A client of later requests for these tests, and the stack that they share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Stack

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
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._key:
            given["Authorization"] = f"Bearer {self._key}"
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, named, answer.read())
        finally:
            connection.close()

    def ask(self, model: str, body: bytes = b"\1\2\3\4", query: str = "", **headers: str) -> Got:
        """Ask a model to answer later."""
        given = {"Prefer": "respond-async", "Content_Type": RAW, **headers}
        return self.send("POST", f"/v1/models/{model}/predict{query}", body, **given)


def pause(redis_url: str, model: str, serving: str = "paused") -> None:
    """Have a model's consumers claim nothing, or, with ``open``, go on."""
    with connect(redis_url) as client:
        client.hset(keys.desired_state(model), "serving", serving)
        client.pexpire(keys.desired_state(model), 600_000)

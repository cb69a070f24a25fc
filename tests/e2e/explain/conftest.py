"""One stack for all tests of this folder: what happens to requests, and what is known of them afterwards."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.later.client import workers_are
from tests.e2e.stack import Response, Stack, call
from tests.helpers import eventually


class Place(Stack):
    """A stack that explains.

    Attributes:
        model, writer: names of what it serves: echo, and a model that repeats its prompt byte by byte.
    """

    model = writer = redis_url = ""

    def hold(self) -> None:
        """Have the consumer claim nothing, and wait until it does not."""
        self._serving("paused")

    def go_on(self) -> None:
        """Have it claim again."""
        self._serving("open")

    def _serving(self, what: str) -> None:
        with connect(self.redis_url) as client:
            client.hset(keys.desired_state(self.model), "serving", what)
        eventually(lambda: workers_are(self.redis_url, self.model, what))

    def add(self, message: bytes) -> bytes:
        """Put a message into the lane as a direct producer does; returns its entry."""
        with connect(self.redis_url) as client:
            entry: Any = client.xadd(keys.work(self.model, "default"), {keys.MESSAGE_FIELD: message}, nomkstream=True)
        return bytes(entry)

    def claim_as_a_ghost(self, entry: bytes, deliveries: int = 1) -> None:
        """Claim what waits as a consumer that is never heard of again."""
        work = keys.work(self.model, "default")
        with connect(self.redis_url) as client:
            client.xreadgroup(keys.GROUP, "ghost", {work: ">"}, count=1)
            client.xclaim(work, keys.GROUP, "ghost", 0, [entry], retrycount=deliveries, justid=True)

    def stories(self, request_id: str, model: str = "") -> list[dict[str, Any]]:
        """Return what is known of an id now."""
        answer = call(f"{self.url}/v1/models/{model or self.model}/requests/{request_id}/explain")
        found: list[dict[str, Any]] = answer.body["found"] if answer.status == 200 else []
        return found

    def explained(self, request_id: str, *, model: str = "", has: tuple[str, ...] = ("worker",)) -> dict[str, Any]:
        """Return the newest story of an id, once it has these members."""

        def look() -> dict[str, Any] | None:
            found = self.stories(request_id, model)
            return found[0] if found and all(name in found[0] for name in has) else None

        return eventually(look)

    def ask(self, path: str, body: bytes | None = None, method: str = "", **headers: str) -> Response:
        """Send a request with headers; an underscore in a name stands for a hyphen."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", body, given, method=method or None)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Response(answer.status, dict(answer.headers), json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, dict(error.headers), json.loads(error.read()))

    def of_model(self, rest: str, model: str = "") -> str:
        """Return a path below a model."""
        return f"/v1/models/{model or self.model}{rest}"


def spans(story: dict[str, Any]) -> dict[str, float]:
    """Return the spans by name."""
    return {one["name"]: one["ms"] for one in story["spans"]}


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two models, each served by one consumer, and one front end."""
    folder, unique = tmp_path_factory.mktemp("explain"), secrets.token_hex(4)
    echo, writer = f"explain-echo-{unique}", f"explain-writer-{unique}"
    models = folder / "models.toml"
    models.write_text(
        f'[models.{echo}]\nfamily = "echo"\n[models.{writer}]\nfamily = "generate"\narchitecture = "null"\n'
        "options = { slots = 4, step_ms = 5 }\n"
    )
    with Place(valkey_url, models, RESULTS=str(folder / "results"), LEASE_MS="1000") as made:
        made.model, made.writer, made.redis_url = echo, writer, valkey_url
        consumers = [made.begin_consumer(name) for name in (echo, writer)]
        made.start_front_end()
        for consumer in consumers:
            consumer.until("Ready: ")
        made.wait(echo)
        yield made

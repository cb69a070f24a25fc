"""One stack for all tests of this folder: what happens to requests, and what is known of them afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.later.client import workers_are
from tests.e2e.stack import Stack, call, echo_models
from tests.helpers import eventually


class Place(Stack):
    """A stack that explains."""

    model = ""
    redis_url = ""

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

    def explained(self, request_id: str, *, model: str = "", has: tuple[str, ...] = ("worker",)) -> dict[str, Any]:
        """Return the newest story of an id, once it has these members."""

        def look() -> dict[str, Any] | None:
            answer = call(f"{self.url}/v1/models/{model or self.model}/requests/{request_id}/explain")
            if answer.status != 200:
                return None
            story: dict[str, Any] = answer.body["found"][0]
            return story if all(name in story for name in has) else None

        return eventually(look)


def spans(story: dict[str, Any]) -> dict[str, float]:
    """Return the spans by name."""
    return {one["name"]: one["ms"] for one in story["spans"]}


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Echo, served by one consumer and one front end."""
    name = f"explain-{secrets.token_hex(4)}"
    with Place(valkey_url, echo_models(tmp_path_factory.mktemp("explain"), name)) as made:
        made.model, made.redis_url = name, valkey_url
        made.start_consumer(name)
        made.start_front_end()
        made.wait(name)
        yield made

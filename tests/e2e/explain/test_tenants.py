"""Whom a story is told: the key of its lane, and whoever may look at the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys
from shared.api_keys import digest_of
from shared.redis.client import connect
from tests.e2e.later.client import Client
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually

ALICE, BOB, READER = "alice-" + 20 * "a", "bob-" + 20 * "b", "reader-" + 20 * "r"
RAW = "application/octet-stream"


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    """Echo with two lanes, and three keys."""
    lines = [
        f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"\n{more}\n'
        for name, key, more in (
            ("alice", ALICE, 'lane = "gold"'),
            ("bob", BOB, ""),
            ("reader", READER, 'console = "read"'),
        )
    ]
    (tmp_path / "keys.toml").write_text("".join(lines))
    settings = {"KEYS_FILE": str(tmp_path / "keys.toml"), "LEASE_MS": "1000"}
    with Stack(valkey_url, echo_models(tmp_path, model_name), **settings) as running:
        running.start_consumer(model_name)
        with connect(valkey_url) as client:
            client.hset(keys.lanes(model_name), "gold", "100,1")
        running.start_front_end()
        yield running


def test_a_story_is_told_to_the_key_of_its_lane_and_to_the_console(stack: Stack, model_name: str) -> None:
    alice, bob, reader = Client(stack, ALICE), Client(stack, BOB), Client(stack, READER)

    def predicted() -> str | None:
        answer = alice.send("POST", f"/v1/models/{model_name}/predict", b"hello", Content_Type=RAW)
        return str(answer.json["id"]) if answer.status == 200 else None

    request_id = eventually(predicted)
    path = f"/v1/models/{model_name}/requests/{request_id}/explain"
    story = eventually(lambda: got.json["found"][0] if (got := alice.send("GET", path)).status == 200 else None)
    assert story["lane"] == "gold"
    assert bob.send("GET", path).status == 404
    assert Client(stack).send("GET", path).status == 401
    on_console = f"/console/requests/{request_id}?model={model_name}"
    seen = eventually(lambda: got.json if (got := reader.send("GET", on_console)).status == 200 else None)
    assert seen["found"][0]["id"] == request_id
    assert (bob.send("GET", on_console).status, alice.send("GET", on_console).status) == (403, 403)

"""Later requests of several tenants, and what happens when something is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys
from shared.api_keys import digest_of
from shared.redis.client import connect
from tests.e2e.later.client import Client, pause, workers_are
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually

ALICE, BOB, CAROL = "hr_alice-alice-alice", "hr_bob-bob-bob-bob", "hr_carol-carol-carol"
MODEL = "later-tenants"
LISTENERS, CAROLS = 8, 2


def keys_text() -> str:
    def line(name: str, key: str, extra: str) -> str:
        return f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"\n{extra}\n'

    carol = f"max_in_flight = {CAROLS}"
    return line("alice", ALICE, 'lane = "gold"') + line("bob", BOB, "") + line("carol", CAROL, carol)


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    folder.joinpath("keys.toml").write_text(keys_text())
    settings = {"KEYS_FILE": str(folder / "keys.toml"), "MAX_LISTENERS": str(LISTENERS)}
    with Stack(valkey_url, echo_models(folder, MODEL), LEASE_MS="1000", KEPT_BYTES="100000", **settings) as running:
        with connect(valkey_url) as client:
            client.hset(keys.lanes(MODEL), "gold", "100,1")
        running.start_front_end()
        running.start_consumer(MODEL)
        eventually(lambda: Client(running, ALICE).ask(MODEL, Prefer="").status == 200)
        yield running


@pytest.fixture
def alice(stack: Stack) -> Client:
    return Client(stack, ALICE)


@pytest.fixture
def bob(stack: Stack) -> Client:
    return Client(stack, BOB)


@pytest.fixture
def paused(valkey_url: str, stack: Stack) -> Iterator[None]:
    pause(valkey_url, MODEL)
    eventually(lambda: workers_are(valkey_url, MODEL, "paused"))
    yield
    pause(valkey_url, MODEL, "open")


def test_requests_of_another_tenant_are_not_there(alice: Client, bob: Client, paused: None) -> None:
    where = alice.ask(MODEL, query="?id=a-secret").headers["location"]
    for method, path in (("GET", where), ("GET", f"{where}?wait=1"), ("GET", f"{where}/events"), ("DELETE", where)):
        refused = bob.send(method, path)
        assert (refused.status, refused.json["error"]["code"]) == (404, "unknown_request"), path
    assert bob.ask(MODEL, b"\7", query="?id=a-secret").status == 202
    assert bob.send("DELETE", where).status == 200
    assert alice.send("GET", where).json["status"] == "queued"
    assert alice.send("DELETE", where).status == 200


@pytest.mark.parametrize("request_id", ["no-such", "x" * 64])
def test_what_never_was_is_not_there(alice: Client, request_id: str) -> None:
    for path in (request_id, f"{request_id}?wait=60", f"{request_id}/events"):
        assert alice.send("GET", f"/v1/models/{MODEL}/requests/{path}").status == 404


@pytest.mark.parametrize("wait", ["soon", "-1", "1.5", "", "9999999999"])
def test_a_wait_that_is_no_number_is_named(alice: Client, wait: str) -> None:
    refused = alice.send("GET", f"/v1/models/{MODEL}/requests/any?wait={wait}")
    assert (refused.status, refused.json["error"]["field"]) == (400, "wait")


def test_full_results_refuse_new_later_requests_and_nothing_else(
    alice: Client, bob: Client, valkey_url: str, paused: None
) -> None:
    large = bytes(60_000)
    wheres = [alice.ask(MODEL, body).headers["location"] for body in (large, bytes(30_000), large)]
    pause(valkey_url, MODEL, "open")
    first, second, third = (alice.send("GET", f"{where}?wait=60") for where in wheres)
    assert (first.status, second.status) == (200, 200)
    assert (third.status, third.json["error"]["code"]) == (507, "results_full")
    refused = alice.ask(MODEL)
    assert (refused.status, refused.json["error"]["code"]) == (507, "results_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert alice.ask(MODEL, large, Prefer="").status == 200
    assert bob.ask(MODEL).status == 202
    with connect(valkey_url) as client:
        client.unlink(*client.scan_iter(match=f"hr:{{{MODEL}}}:r:gold:*"))
    assert alice.ask(MODEL).status == 202


def test_clients_that_listen_are_bounded_together_and_each(stack: Stack, bob: Client, paused: None) -> None:
    where = bob.ask(MODEL).headers["location"]
    carol = Client(stack, CAROL)
    with ExitStack() as open_ones:
        for _ in range(CAROLS):
            next(open_ones.enter_context(carol.events(where)))
        refused = carol.send("GET", f"{where}/events")
        assert (refused.status, refused.json["error"]["code"]) == (429, "client_limit")
        assert carol.send("GET", f"{where}?wait=60").status == 429
        for _ in range(LISTENERS // 2):
            next(open_ones.enter_context(bob.events(where)))
        assert bob.send("GET", f"{where}/events").status == 429
        assert bob.send("GET", where).status == 202
    eventually(lambda: bob.send("GET", f"{where}?wait=1").status == 202)
    assert bob.send("DELETE", where).status == 200


def test_a_stopped_front_end_ends_what_waits(stack: Stack, bob: Client, paused: None) -> None:
    other = Client(stack, BOB)
    before = stack.url
    extra = stack.start_front_end()
    where = other.ask(MODEL).headers["location"]
    with other.events(where) as events:
        next(events)
        extra.terminate()
        assert [name for name, _, _ in events] == []
    stack.url = before
    assert bob.send("DELETE", where).status == 200

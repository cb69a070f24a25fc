"""Requests that are answered later, against a running stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.later.client import Client
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(valkey_url, echo_models(tmp_path_factory.mktemp("models"), "later-echo")) as running:
        running.start_front_end()
        running.start_consumer("later-echo")
        running.wait("later-echo")
        yield running


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack)


def test_a_request_is_put_off_and_fetched(client: Client) -> None:
    put_off = client.ask("later-echo")
    assert put_off.status == 202
    where = put_off.headers["location"]
    assert where == f"/v1/models/later-echo/requests/{put_off.json['id']}"
    assert put_off.headers["preference-applied"] == "respond-async"
    assert int(put_off.headers["retry-after"]) >= 1
    assert put_off.json["status"] == "queued"
    assert put_off.json["position"] >= 1
    answer = eventually(lambda: got if (got := client.send("GET", where)).status == 200 else None)
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]

"""Webhooks of later requests, from a running stack to a real receiver, and the operator's commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from shared import keys
from shared.redis.client import connect
from tests.children import ROOT, clean_environment
from tests.e2e.later.client import Client, Got
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually
from tests.receiver import Received, Receiver

SECRET = "whsec_" + "A" * 43 + "="
MODEL, BODY = "hook-echo", bytes([1, 2, 3, 4])


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "WEBHOOK_SECRETS": SECRET,
        "PRIVATE_NETWORKS": "127.0.0.1",
        "PUBLIC_URL": "https://api.example",
        "RESULTS": str(tmp_path_factory.mktemp("results")),
    }
    with Stack(valkey_url, echo_models(tmp_path_factory.mktemp("models"), MODEL), **settings) as running:
        running.start_front_end()
        running.start_consumer(MODEL)
        running.wait(MODEL)
        yield running


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack)


def headrace(url: str, *arguments: str) -> Any:
    """What a command prints as JSON."""
    ran = subprocess.run(
        [sys.executable, "-m", "headrace", *arguments, "--json"],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def of(receiver: Receiver, request_id: str) -> list[Received]:
    """What came about a request, in order; all of it is signed."""
    for one in receiver.received:
        assert Webhook(SECRET).verify(one.body.decode(), dict(one.headers))
    return [one for one in receiver.received if one.document["data"]["id"] == request_id]


def test_an_answer_is_announced_with_its_link_and_the_small_result(client: Client) -> None:
    with Receiver() as receiver:
        hooked = {"Headrace_Webhook": receiver.url("/done?x=1"), "Headrace_Webhook_Include": "result"}
        put_off = client.ask(MODEL, BODY, "?id=announced", **hooked)
        assert put_off.status == 202
        (received,) = eventually(lambda: of(receiver, "announced"))
    metrics = client.send("GET", "/metrics").body.decode()
    assert re.search(r'^headrace_webhook_attempts_total\{result="delivered"\} [1-9]', metrics, re.MULTILINE)
    assert f'headrace_webhooks_pending{{model="{MODEL}"}}' in metrics
    assert (received.path, received.type) == ("/done?x=1", "request.succeeded")
    data = received.document["data"]
    assert data["url"] == f"https://api.example{put_off.headers['location']}"
    assert data["result"]["outputs"][0]["data"] == [1, 2, 3, 4]


def test_every_step_is_announced_in_order_if_asked_for(client: Client, valkey_url: str) -> None:
    events = "request.queued,request.running,request.succeeded"
    headrace(valkey_url, "pause", MODEL)
    try:
        with Receiver() as receiver:
            ids = [f"steps-{number}" for number in range(3)]
            for one in ids:
                hooked = {"Headrace_Webhook": receiver.url(), "Headrace_Webhook_Events": events}
                assert client.ask(MODEL, BODY, f"?id={one}", **hooked).status == 202
            eventually(lambda: receiver.types().count("request.queued") == 3)
            headrace(valkey_url, "resume", MODEL)
            eventually(lambda: receiver.types().count("request.succeeded") == 3)
            for one in ids:
                types = [received.type for received in of(receiver, one)]
                # What has ended before anybody looks is not announced as running any more.
                assert [kind for kind in types if kind != "request.running"] == [
                    "request.queued",
                    "request.succeeded",
                ]
                assert types.index("request.succeeded") == len(types) - 1
    finally:
        headrace(valkey_url, "resume", MODEL)


def test_failures_cancellations_and_expiries_are_announced(client: Client, valkey_url: str) -> None:
    with Receiver() as receiver:
        hooked = {"Headrace_Webhook": receiver.url()}
        headrace(valkey_url, "pause", MODEL)
        try:
            assert client.ask(MODEL, BODY, "?id=hook-cancelled", **hooked).status == 202
            assert client.send("DELETE", f"/v1/models/{MODEL}/requests/hook-cancelled").status == 200
            assert client.ask(MODEL, BODY, "?id=hook-expired&timeout_ms=1", **hooked).status == 202
            (cancelled,) = eventually(lambda: of(receiver, "hook-cancelled"))
        finally:
            headrace(valkey_url, "resume", MODEL)
        assert client.ask(MODEL, BODY, "?id=hook-fine", **hooked).status == 202
        (expired,) = eventually(lambda: of(receiver, "hook-expired"))
        eventually(lambda: of(receiver, "hook-fine"))
    assert (cancelled.type, cancelled.document["data"]["status"]) == ("request.cancelled", "cancelled")
    assert expired.document["data"]["error"] == {"code": "expired"}


def test_the_end_of_a_batch_is_announced_with_how_its_items_ended(client: Client) -> None:
    with Receiver() as receiver:
        lines = b'{"inputs": [[1, 2]]}\n' * 3 + b"no json\n"
        hooked = {"Headrace_Webhook": receiver.url(), "Content_Type": "application/jsonl"}
        taken = client.send("POST", f"/v1/models/{MODEL}/batches", lines, **hooked)
        assert taken.status == 201, taken.body
        (received,) = eventually(lambda: of(receiver, taken.json["id"]))
    assert received.type == "batch.completed"
    data = received.document["data"]
    assert (data["url"], data["counts"]["total"]) == (f"https://api.example{taken.headers['location']}", 4)
    assert data["counts"]["failed"] >= 1


@pytest.mark.parametrize(
    ("headers", "field", "why"),
    [
        ({"Headrace_Webhook": "http://10.0.0.1/"}, "Headrace-Webhook", "10.0.0.1 is not a public address"),
        ({"Headrace_Webhook": "http://169.254.169.254/"}, "Headrace-Webhook", "is not a public address"),
        ({"Headrace_Webhook": "https://a:b@hooks.example/"}, "Headrace-Webhook", "user name or a password"),
        ({"Headrace_Webhook": "file:///etc/passwd"}, "Headrace-Webhook", "must begin with https:// or http://"),
        ({"Headrace_Webhook": "https://hooks.example:25/"}, "Headrace-Webhook", "port 25"),
        ({"Headrace_Webhook": "https://hooks.example/" + "a" * 2100}, "Headrace-Webhook", "longer than 2,048"),
        (
            {"Headrace_Webhook": "https://hooks.example/", "Headrace_Webhook_Events": "done"},
            "Headrace-Webhook-Events",
            "request.queued",
        ),
        (
            {"Headrace_Webhook": "https://hooks.example/", "Headrace_Webhook_Include": "all"},
            "Headrace-Webhook-Include",
            "'result'",
        ),
        ({"Headrace_Webhook": "https://hooks.example/", "Prefer": "wait=1"}, "Prefer", "respond-async"),
    ],
)
def test_bad_headers_get_400_with_their_name_and_nothing_is_queued(
    client: Client, headers: dict[str, str], field: str, why: str
) -> None:
    refused = client.ask(MODEL, BODY, "?id=refused", **headers)
    assert (refused.status, refused.json["error"]["field"]) == (400, field)
    assert why in refused.json["error"]["message"]
    assert client.send("GET", f"/v1/models/{MODEL}/requests/refused").status == 404


def test_what_was_given_up_is_listed_delivered_again_and_dropped(client: Client, valkey_url: str) -> None:
    is_wanted = False
    with Receiver(lambda received: (204 if is_wanted else 410, {})) as receiver:
        for one in ("gone-1", "gone-2"):
            assert client.ask(MODEL, BODY, f"?id={one}", Headrace_Webhook=receiver.url("/secret")).status == 202
        found = eventually(
            lambda: known if (known := headrace(valkey_url, "webhooks", "list", MODEL))["given_up"] == 2 else None
        )
        assert {one["id"] for one in found["webhooks"]} == {"gone-1", "gone-2"}
        first, second = found["webhooks"]
        assert (first["event"], first["attempts"], first["reason"]) == ("request.succeeded", 1, "it answered 410")
        is_wanted = True
        assert headrace(valkey_url, "webhooks", "retry", MODEL, first["entry"], "--yes") == {"retried": 1, "gone": 0}
        again = eventually(lambda: of(receiver, first["id"])[1:])
        assert (
            again[0].headers["webhook-id"] == first["webhook_id"] == of(receiver, first["id"])[0].headers["webhook-id"]
        )
        assert headrace(valkey_url, "webhooks", "drop", MODEL, "--all", "--yes") == {"dropped": 1, "gone": 0}
        assert headrace(valkey_url, "webhooks", "list", MODEL)["given_up"] == 0
        assert len(of(receiver, second["id"])) == 1


def test_a_lane_whose_webhooks_wait_admits_no_more_of_them_and_everything_else(client: Client, valkey_url: str) -> None:
    place = keys.webhooks_pending(MODEL, "default")
    with connect(valkey_url) as redis:
        redis.zadd(place, {f"h:request:{number}": number for number in range(10_000)})
        redis.pexpire(place, 60_000)
        try:
            full: Got = client.ask(MODEL, BODY, "?id=one-more", Headrace_Webhook="https://hooks.example/")
            assert (full.status, full.json["error"]["code"]) == (503, "webhooks_full")
            assert int(full.headers["retry-after"]) > 0
            assert client.ask(MODEL).status == 202
        finally:
            redis.zremrangebyscore(place, 0, 10_000)

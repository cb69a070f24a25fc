"""The headers that name a webhook, and what is signed and sent."""

from __future__ import annotations

import time
from base64 import b64encode

import msgspec
import pytest
from standardwebhooks import Webhook

from producer_api.net.addresses import Policy
from producer_api.webhooks import payload, signing
from producer_api.webhooks.hook import BATCH_EVENTS, REQUEST_EVENTS, Hook, Hooks
from producer_api.webhooks.payload import Event
from shared.settings import Settings
from shared.webhook_secrets import key_of
from shared.wire.outcomes import MALFORMED, RequestError

URL = "https://hooks.example/a"
HOOKS = Hooks(Policy(), is_on=True)
EVENT = Event("msg_1", "request.failed", 1_700_000_000_123, 0, "r1", "{}", detail={"code": "model_error"})


def refusal(
    url: str = URL, events: str | None = None, include: str | None = None, hooks: Hooks = HOOKS
) -> tuple[str, str]:
    with pytest.raises(RequestError) as caught:
        hooks.read(url, events, include)
    assert caught.value.outcome is MALFORMED
    return caught.value.field or "", caught.value.message


def test_without_a_filter_all_ends_are_meant() -> None:
    assert HOOKS.read(f" {URL} ", None, None) == Hook(URL, REQUEST_EVENTS[2:])
    assert HOOKS.read(URL, "", None, is_batch=True) == Hook(URL, BATCH_EVENTS)


def test_a_filter_names_events() -> None:
    hook = HOOKS.read(URL, "request.queued, request.failed,request.queued", " Result ")
    assert hook == Hook(URL, ("request.queued", "request.failed"), result=True)
    assert msgspec.json.decode(hook.encode(), type=Hook) == hook


@pytest.mark.parametrize("events", ["request.done", "batch.completed", "*", "request.failed;request.queued"])
def test_other_events_are_refused_with_those_there_are(events: str) -> None:
    field, message = refusal(events=events)
    assert field == "Headrace-Webhook-Events"
    assert "request.queued, request.running, request.succeeded" in message


def test_a_filter_has_an_end() -> None:
    assert refusal(events="request.failed," * 100) == (
        "Headrace-Webhook-Events",
        "Headrace-Webhook-Events has at most 1000 characters.",
    )


def test_what_is_included_is_a_result() -> None:
    assert refusal(include="everything")[0] == "Headrace-Webhook-Include"
    with pytest.raises(RequestError, match="is for requests"):
        HOOKS.read(URL, None, "result", is_batch=True)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1/", "127.0.0.1 is not a public address"),
        ("http://[::ffff:10.0.0.1]/", "is not a public address"),
        ("https://169.254.169.254/latest/meta-data", "is not a public address"),
        ("http://①②⑦.⓪.⓪.①/", "127.0.0.1 is not a public address"),
        ("http://localhost:8080/", "localhost is a name of private networks"),
        ("ftp://hooks.example/", "must begin with https:// or http://"),
        ("https://a:b@hooks.example/", "user name or a password"),
        ("https://hooks.example:22/", "port 22"),
        ("https://hooks.example/" + "a" * 2048, "longer than 2,048"),
    ],
)
def test_addresses_that_may_not_be_asked_are_refused_at_once(url: str, why: str) -> None:
    field, message = refusal(url)
    assert (field, message.startswith("Headrace-Webhook is refused: ")) == ("Headrace-Webhook", True)
    assert why in message


def test_long_and_foreign_addresses_are_taken() -> None:
    long = URL + "/" + "b" * (2000 - len(URL) - 1)
    assert HOOKS.read(long, None, None).url == long
    assert HOOKS.read("https://bücher.example/ä", None, None).url == "https://xn--bcher-kva.example/%C3%A4"


def test_the_settings_say_what_is_allowed() -> None:
    assert "HEADRACE_WEBHOOK_SECRETS" in refusal(hooks=Hooks.of(Settings()))[1]
    allowed = Settings(webhook_secrets=("whsec_" + "A" * 32,), private_networks=("127.0.0.0/8",))
    assert Hooks.of(allowed).read("http://127.0.0.1:8080/", None, None).url == "http://127.0.0.1:8080/"


def test_the_reference_implementation_verifies_what_is_signed() -> None:
    secrets = ["whsec_" + b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    body = payload.body(EVENT, "imagenet", "")
    headers = signing.headers([key_of(one) for one in secrets], EVENT.id, int(time.time()), body)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(secret).verify(body.decode(), headers)
    alone = signing.headers([key_of(secrets[0])], EVENT.id, int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"].startswith(alone["webhook-signature"])


def test_a_body_says_what_happened_when_and_where_the_result_is() -> None:
    assert msgspec.json.decode(payload.body(EVENT, "imagenet", "https://api.example")) == {
        "type": "request.failed",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "data": {
            "id": "r1",
            "model": "imagenet",
            "status": "failed",
            "url": "https://api.example/v1/models/imagenet/requests/r1",
            "error": {"code": "model_error"},
        },
    }
    batch = Event("msg_2", "batch.completed", 0, 0, "b1", "{}", detail={"succeeded": 9, "failed": 1})
    data = msgspec.json.decode(payload.body(batch, "echo", ""))["data"]
    assert data == {
        "id": "b1",
        "model": "echo",
        "status": "completed",
        "url": "/v1/models/echo/batches/b1",
        "counts": {"succeeded": 9, "failed": 1},
    }

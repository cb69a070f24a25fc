"""Requests that are answered later, against a running stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.e2e.later.client import RAW, Client, pause, workers_are
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(valkey_url, echo_models(tmp_path_factory.mktemp("models"), "later-echo"), LEASE_MS="1000") as running:
        running.start_front_end()
        running.start_consumer("later-echo")
        running.wait("later-echo")
        yield running


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack)


@pytest.fixture
def resume(valkey_url: str) -> Callable[[], None]:
    return lambda: pause(valkey_url, "later-echo", "open")


@pytest.fixture
def paused(stack: Stack, valkey_url: str, client: Client, resume: Callable[[], None]) -> Iterator[None]:
    """The consumer claims nothing, until it is resumed."""
    pause(valkey_url, "later-echo")
    eventually(lambda: workers_are(valkey_url, "later-echo", "paused"))
    yield
    resume()
    eventually(lambda: workers_are(valkey_url, "later-echo", "open"))


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


def test_the_answer_comes_at_once_if_it_is_there_while_the_client_waits(client: Client) -> None:
    answer = client.ask("later-echo", Prefer="respond-async, wait=20")
    assert answer.status == 200
    assert answer.headers["preference-applied"] == "respond-async, wait=20"
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]
    again = client.send("GET", f"/v1/models/later-echo/requests/{answer.json['id']}")
    assert again.json["outputs"] == answer.json["outputs"]


def test_a_long_poll_hears_of_the_end(client: Client, paused: None, resume: Callable[[], None]) -> None:
    where = client.ask("later-echo").headers["location"]
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(client.send, "GET", f"{where}?wait=60")
        resume()
        assert polled.result().status == 200


def test_events_tell_how_it_goes_on(client: Client, paused: None, resume: Callable[[], None]) -> None:
    first = client.ask("later-echo")
    second = client.ask("later-echo")
    with client.events(second.headers["location"]) as events:
        assert next(events) == ("queued-2", "queued", {"position": 2})
        assert client.send("DELETE", first.headers["location"]).status == 200
        assert next(events) == ("queued-1", "queued", {"position": 1})
        resume()
        *_, last = events
    assert last == ("done", "done", {"code": "ok"})


def test_the_head_of_a_stream_of_events_does_not_wait_for_its_end(client: Client, paused: None) -> None:
    where = client.ask("later-echo").headers["location"]
    head = client.send("HEAD", f"{where}/events")
    assert (head.status, head.headers["content-type"], head.body) == (200, "text/event-stream", b"")
    assert client.send("DELETE", where).status == 200


def test_events_resume_where_they_broke_off(client: Client, paused: None, resume: Callable[[], None]) -> None:
    where = client.ask("later-echo").headers["location"]
    with client.events(where) as events:
        name, _, _ = next(events)
    with client.events(where, Last_Event_ID=name) as events:
        resume()
        names = [name for name, _, _ in events]
    assert "queued-1" not in names
    assert names[-1] == "done"
    assert client.send("GET", f"{where}/events", Last_Event_ID="done").status == 204


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
def test_a_cancelled_request_says_so(client: Client, paused: None, accept: str) -> None:
    where = client.ask("later-echo").headers["location"]
    assert client.send("DELETE", where).json["status"] == "cancelled"
    gone = client.send("GET", where, Accept=accept)
    assert (gone.status, gone.json["error"]["code"]) == (499, "cancelled")
    assert client.send("DELETE", where).status == 409


def test_a_request_expires_although_no_consumer_takes_it(client: Client, paused: None) -> None:
    where = client.ask("later-echo", query="?timeout_ms=50").headers["location"]
    with client.events(where) as events:
        *_, (name, event, data) = events
    assert (name, event, data) == ("expired", "expired", {"code": "expired"})
    assert client.send("GET", where).status == 504


def test_the_same_request_runs_once(client: Client, paused: None) -> None:
    first = client.ask("later-echo", Idempotency_Key="an-order")
    again = client.ask("later-echo", Idempotency_Key="an-order")
    assert (again.status, again.headers["location"]) == (202, first.headers["location"])
    other = client.ask("later-echo", b"\5", Idempotency_Key="an-order")
    assert (other.status, other.json["error"]["code"]) == (422, "key_reused")
    assert client.send("DELETE", first.headers["location"]).status == 200


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Prefer": "respond-async, wait=soon"}, "Prefer"),
        ({"Prefer": "respond-async=yes"}, "Prefer"),
        ({"Prefer": 'respond-async, "'}, "Prefer"),
        ({"Prefer": "respond-async, " + "x" * 2000}, "Prefer"),
        ({"Headrace_Keep": "8d"}, "Headrace-Keep"),
        ({"Headrace_Keep": "0"}, "Headrace-Keep"),
        ({"Headrace_Keep": "an hour"}, "Headrace-Keep"),
    ],
)
def test_a_malformed_header_is_named(client: Client, headers: dict[str, str], field: str) -> None:
    refused = client.ask("later-echo", b"x", "", **headers)
    assert (refused.status, refused.json["error"]["field"]) == (400, field)


def test_what_is_not_known_is_ignored(client: Client) -> None:
    assert client.ask("later-echo", Prefer="return=minimal, wait=soon").status == 200
    assert client.ask("later-echo", Prefer='foo; bar="a, respond-async"').status == 200
    assert client.ask("later-echo", Prefer="return=minimal , Respond-Async;x=1").status == 202


def test_a_client_with_a_kept_connection_is_put_off_by_the_express_way(stack: Stack) -> None:
    """The same head comes again and again, and is parsed once."""
    connection = HTTPConnection(urlsplit(stack.url).netloc, timeout=30)
    ids = set()
    for _ in range(4):
        given = {"Prefer": "respond-async", "Content-Type": RAW}
        connection.request("POST", "/v1/models/later-echo/predict", b"four", given)
        with connection.getresponse() as answer:
            assert answer.status == 202
            ids.add(json.loads(answer.read())["id"])
    connection.close()
    assert len(ids) == 4


def test_a_request_in_another_dialect_is_answered_in_it(client: Client) -> None:
    inputs = [{"name": "input", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]
    outputs = [{"name": "output"}]
    body = json.dumps({"id": "my-own", "inputs": inputs, "outputs": outputs}).encode()
    headers = {"Prefer": "respond-async", "Content_Type": "application/json"}
    put_off = client.send("POST", "/v2/models/later-echo/infer", body, **headers)
    assert put_off.status == 202
    answer = client.send("GET", f"{put_off.headers['location']}?wait=60")
    assert answer.json["id"] == "my-own"
    assert answer.json["model_name"] == "later-echo"
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]

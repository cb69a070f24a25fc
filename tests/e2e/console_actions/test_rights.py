"""Who may act on the console, and what comes of requests that are wrong: a sentence each, and nothing is touched."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_api.console.access import MARK
from producer_api.console.documents import MOST_IDS
from producer_api.http import body
from producer_api.routes.console import dead, posting
from shared import keys
from shared.settings import Settings
from shared.state import lanes
from tests.e2e.console_actions.desk import ACTION, Desk
from tests.e2e.http_server import HttpServer
from tests.helpers import eventually
from tests.unit.producer_api.console.test_access import keys_file

pytestmark = pytest.mark.timeout(60)

POSTS = ("/console/dead/requeue", "/console/dead/drop", "/console/jobs/cancel", "/console/lanes/pause")


@pytest.fixture(scope="module")
def desk(valkey_url: str) -> Iterator[Desk]:
    """A desk with letters that nothing here may touch."""
    with Desk(valkey_url) as started:
        started.bury(3)
        yield started
        assert len(started.letters()) == 3


def action(desk: Desk, path: str) -> dict[str, Any]:
    """A document that would act."""
    members: dict[str, dict[str, Any]] = {
        "/console/dead/requeue": {"all": True},
        "/console/dead/drop": {"all": True},
        "/console/jobs/cancel": {"id": "b-1"},
        "/console/lanes/pause": {"paused": True},
    }
    return {"model": desk.model, "lane": "default", **members[path]}


def test_a_reader_who_posts_is_refused_by_the_server(valkey_url: str, tmp_path: Path) -> None:
    with Desk(valkey_url, keys_file=keys_file(tmp_path)) as desk:
        desk.bury(2)
        tried = [(path, *one) for path in POSTS for one in (("reader", 403), ("plain", 403), ("nobody", 401))]
        for path, name, status in tried:
            answer = desk.post(path, action(desk, path), {**ACTION, "Authorization": f"Bearer {name}"})
            assert answer.status == status
            assert answer.headers["x-content-type-options"] == "nosniff"
        reads = {name: {"Authorization": f"Bearer {name}"} for name in ("reader", "plain")}
        listed = f"/console/dead?model={desk.model}"
        assert desk.get(listed, reads["reader"]).json["total"] == 2
        for looked in (listed, f"/console/jobs?model={desk.model}"):
            assert desk.get(looked, reads["plain"]).status == 403
            assert desk.get(looked).status == 401
        assert len(desk.letters()) == 2
        assert desk.redis.hget(keys.lanes(desk.model), lanes.paused_field("default")) is None


def test_a_console_that_only_shows_refuses(valkey_url: str) -> None:
    with Desk(valkey_url, console="read") as desk:
        for path in POSTS:
            answer = desk.post(path, action(desk, path))
            assert (answer.status, answer.error["code"]) == (403, "forbidden")
            assert "HEADRACE_CONSOLE=read" in answer.error["message"]
            assert desk.get("/console/session").json["read_only_why"] == answer.error["message"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "malformed"),
        ({"Content-Type": "application/json"}, 400, "malformed"),
        ({MARK: "1"}, 415, "unsupported_media_type"),
        ({MARK: "1", "Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({**ACTION, "Origin": "https://evil.example"}, 403, "forbidden"),
        ({**ACTION, "Origin": "null"}, 403, "forbidden"),
        ({**ACTION, "Host": "evil.example"}, 421, "misdirected"),
        ({**ACTION, "X-Forwarded-For": "10.0.0.1"}, 403, "forbidden"),
        ({**ACTION, "Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, dict) else str(part),
)
def test_what_another_site_or_a_mistake_sends_is_refused(
    desk: Desk, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = desk.post(path, action(desk, path), headers)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["message"].endswith(".")


@pytest.mark.parametrize(
    ("path", "members", "field"),
    [
        ("/console/dead/drop", {}, "ids"),
        ("/console/dead/drop", {"all": True, "ids": ["1-1"]}, "ids"),
        ("/console/dead/drop", {"ids": []}, "ids"),
        ("/console/dead/drop", {"ids": "1-1"}, "ids"),
        ("/console/dead/drop", {"ids": ["1-1"] * (MOST_IDS + 1)}, "ids"),
        ("/console/dead/drop", {"ids": ["1-1", "<script>"]}, "ids[1]"),
        ("/console/dead/drop", {"ids": ["1-1", 5]}, "ids[1]"),
        ("/console/dead/drop", {"ids": [f"{1 << 64}-1"]}, "ids[0]"),
        ("/console/dead/drop", {"ids": ["1-1/gold"]}, "ids[0]"),
        ("/console/dead/drop", {"ids": ["1-1"], "lane": ""}, "lane"),
        ("/console/dead/drop", {"ids": ["1-1"], "match": "x"}, "lane"),
        ("/console/dead/drop", {"all": 1}, "all"),
        ("/console/dead/drop", {"all": True, "match": "x" * 300}, "match"),
        ("/console/dead/drop", {"all": True, "up_to": "now"}, "up_to"),
        ("/console/dead/drop", {"all": True, "why": "because"}, "body"),
        ("/console/dead/drop", {"all": True, "model": "a}b"}, "model"),
        ("/console/dead/drop", {"all": True, "model": None}, "model"),
        ("/console/dead/drop", {"all": True, "lane": "\u202e\u0000"}, "lane"),
        ("/console/jobs/cancel", {"id": "<b>"}, "id"),
        ("/console/jobs/cancel", {"id": "b" * 65_000}, "id"),
        ("/console/jobs/cancel", {}, "body"),
        ("/console/lanes/pause", {"paused": "yes"}, "paused"),
        ("/console/lanes/pause", {}, "body"),
        ("/console/lanes/pause", {"paused": True, "lane": ""}, "lane"),
    ],
)
def test_wrong_members_are_named(desk: Desk, path: str, members: dict[str, Any], field: str) -> None:
    answer = desk.post(path, {"model": desk.model, "lane": "default", **members})
    assert answer.status in (400, 422)
    assert (answer.error["field"], answer.headers["content-type"]) == (field, "application/json")
    assert answer.error["message"].endswith(".")


@pytest.mark.parametrize("path", POSTS)
def test_unknown_models_and_lanes(desk: Desk, path: str) -> None:
    document = action(desk, path)
    assert desk.post(path, {**document, "model": "nobody"}).error["code"] == "unknown_model"
    lost = desk.post(path, {**document, "lane": "nowhere"}).error["code"]
    assert lost == ("unknown_batch" if path == "/console/jobs/cancel" else "unknown_lane")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "model"),
        ("model=%3Cscript%3E", "model"),
        ("model={model}&lane=%00", "lane"),
        ("model={model}&limit=0", "limit"),
        ("model={model}&limit=501", "limit"),
        ("model={model}&limit=%D9%A5", "limit"),
        ("model={model}&after=x", "after"),
        ("model={model}&after=1-1/", "after"),
        ("model={model}&match=" + "x" * 201, "match"),
        ("model={model}&model=b", "model"),
        ("model={model}&%3Cscript%3E=1", "<script>"),
    ],
)
def test_wrong_questions_are_named(desk: Desk, query: str, field: str) -> None:
    answer = desk.get(f"/console/dead?{query.format(model=desk.model)}")
    assert (answer.status, answer.error["field"]) == (400, field)


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"[" * 20_000, 400), (b"\xff", 400), (b"[]", 422), (b"null", 422)]
)
def test_bodies_that_are_no_document(desk: Desk, body: bytes, status: int) -> None:
    for path in POSTS:
        answer = desk.ask("POST", path, ACTION, body)
        assert (answer.status, answer.error["field"]) == (status, "body")


def test_a_body_over_the_bound_is_refused_before_it_is_read(desk: Desk) -> None:
    answer = desk.ask("POST", POSTS[0], ACTION, b" " * (posting.MOST_BYTES + 1))
    assert answer.error["code"] == "body_too_large"


def test_a_body_that_does_not_come_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body.read, "__defaults__", (0.2,))
    with socket.create_connection(("127.0.0.1", desk.server.port), timeout=20) as slow:
        head = "".join(f"{name}: {value}\r\n" for name, value in ACTION.items())
        slow.sendall(f"POST {POSTS[0]} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 9\r\n\r\n{{".encode())
        assert b"408" in slow.recv(4096).splitlines()[0]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(desk: Desk, method: str) -> None:
    for path in POSTS:
        assert desk.ask(method, path, ACTION).status == 405


def test_an_action_that_nobody_reads_holds_nobody_up(desk: Desk) -> None:
    """It waits in a lane without room; meanwhile others look, act and infer."""
    desk.redis.xadd(keys.work(desk.other, "default"), {"m": b"x"})
    body = json.dumps({"model": desk.other, "lane": "gold", "all": True}).encode()
    desk.bury(1100, lane="gold", model=desk.other)
    unread = []
    for _ in range(dead.MOST_AT_ONCE):
        connection = http.client.HTTPConnection("127.0.0.1", desk.server.port, timeout=20)
        connection.request("POST", POSTS[0], body, ACTION)
        unread.append(connection)
    try:
        eventually(lambda: desk.redis.xlen(keys.work(desk.other, "gold")) == 1024)
        refused = desk.post(POSTS[0], action(desk, POSTS[0]))
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        assert desk.dead()["total"] == 3
        answer = desk.ask(
            "POST", f"/v1/models/{desk.model}/predict", {"Content-Type": "application/octet-stream"}, b"hello"
        )
        assert answer.status == 200
    finally:
        for connection in unread:
            connection.close()
    eventually(lambda: desk.post(POSTS[1], {"model": desk.other, "lane": "gold", "all": True}).status == 200)


def test_one_line_says_who_did_what(valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="headrace.console")
    with Desk(valkey_url, keys_file=keys_file(tmp_path)) as desk:
        desk.bury(2, reason="crashed\n2026 INFO forged")
        sent = {**ACTION, "Authorization": "Bearer operator"}
        desk.post(POSTS[1], {"model": desk.model, "lane": "default", "all": True, "match": "2\nx"}, sent)
        desk.post(POSTS[0], {"model": desk.model, "lane": "default", "all": True}, sent)
        desk.post(POSTS[3], {"model": desk.model, "lane": "gold", "paused": True}, sent)
        assert desk.redis.hget(keys.lanes(desk.model), lanes.paused_field("gold")) == lanes.PAUSED
        answer = desk.post(POSTS[3], {"model": desk.model, "lane": "gold", "paused": False}, sent)
        assert answer.json == {"model": desk.model, "lane": "gold", "paused": False}
        assert desk.redis.hget(keys.lanes(desk.model), lanes.paused_field("gold")) is None
        said = [record.getMessage() for record in caplog.records if "by operator" in record.getMessage()]
        assert said == [
            f"Console: drop by operator: 0 dead letters of {desk.model}, default (all that match '2\\nx'); 0 failed.",
            f"Console: requeue by operator: 2 dead letters of {desk.model}, default (all); 0 failed.",
            f"Console: pause by operator: {desk.model}, gold.",
            f"Console: resume by operator: {desk.model}, gold.",
        ]
        for name, count in (("drop", 1), ("requeue", 1), ("pause", 1), ("resume", 1), ("cancel", 0)):
            assert desk.server.metric("headrace_console_actions_total", action=name, result="done") == count


def test_a_console_without_redis_says_so() -> None:
    """Nothing listens there."""

    with HttpServer(Settings(redis_url="redis://127.0.0.1:1/0")) as server:
        status, _, body = server.get("/console/dead?model=echo")
        assert (status, body["error"]["code"]) == (503, "queue_unavailable")

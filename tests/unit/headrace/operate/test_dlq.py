"""`headrace dlq` on a real server, and what it must not do unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.operate import dlq
from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from tests.unit.headrace.operators import MODEL, headrace, serve, server

PLACE = keys.dead_letters(MODEL, "default")
WORK = keys.work(MODEL, "default")


def message(number: int) -> bytes:
    return encode_request(Request(f"r{number}", 60_000, "application/octet-stream", b"top secret"))


def bury(client: Any, number: int) -> str:
    fields = {"reason": "crashed", "crashes": 3, "id": f"r{number}", "entry": "1-1", "m": message(number)}
    entry: bytes = client.xadd(PLACE, fields)
    return entry.decode()


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[tuple[str, Any, list[str]]]:
    """A server with three dead letters: its address, a client, and their entries."""
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        yield url, client, [bury(client, number) for number in range(3)]


def test_they_are_listed_newest_first_and_shown_without_payload(lane: tuple[str, Any, list[str]]) -> None:
    url, _, entries = lane
    found = headrace(url, "dlq", "list", MODEL, "--count", "2", "--json").json
    assert (found["total"], [one["entry"] for one in found["letters"]]) == (3, entries[:0:-1])
    assert found["letters"][0]["crashes"] == 3
    table = headrace(url, "dlq", "list", MODEL)
    assert table.out.splitlines()[1].split()[0] == entries[2]
    assert "3 dead letters" in table.out
    shown = headrace(url, "dlq", "show", MODEL, entries[1], "--json")
    assert shown.json["request"]["body_bytes"] == len("top secret")
    assert (shown.json["request"]["id"], shown.json["reason"]) == ("r1", "crashed")
    assert "top secret" not in shown.out + headrace(url, "dlq", "show", MODEL, entries[1]).out


def test_of_a_body_in_the_result_store_the_place_is_shown() -> None:
    stored = Request("r", 1000, "image/jpeg", at_store="owner/id:1:5:digest")
    described = dlq._described(encode_request(stored))
    assert (described["at_store"], described["content_type"]) == ("owner/id:1:5:digest", "image/jpeg")
    assert "body_bytes" not in described


def test_a_requeued_letter_starts_afresh(lane: tuple[str, Any, list[str]]) -> None:
    url, client, entries = lane
    kept = keys.reply(MODEL, "default", "r2")
    client.rpush(keys.reply(MODEL, "default", "r1"), b"it crashed")
    client.rpush(kept, b"another's")
    client.set(keys.flight(MODEL, "default", "r1"), "1-1 9 print")
    done = headrace(url, "dlq", "requeue", MODEL, entries[1], "--yes", "--json")
    assert (done.code, done.json) == (0, {"requeued": 1, "gone": 0})
    [(entry, fields)] = client.xrange(WORK)
    assert fields == {b"m": message(1)}
    assert int(entry.partition(b"-")[0]) >= int(entries[1].partition("-")[0])
    forgotten = (keys.reply(MODEL, "default", "r1"), keys.flight(MODEL, "default", "r1"))
    assert client.exists(*forgotten) == 0
    assert client.exists(kept) == 1
    assert client.xlen(PLACE) == 2
    assert headrace(url, "dlq", "requeue", MODEL, "--all", "--yes").code == 0
    assert (client.xlen(WORK), client.xlen(PLACE)) == (3, 0)


def test_dropping(lane: tuple[str, Any, list[str]]) -> None:
    url, client, entries = lane
    assert headrace(url, "dlq", "drop", MODEL, entries[0], "--yes").code == 0
    assert client.xlen(PLACE) == 2
    assert headrace(url, "dlq", "drop", MODEL, "--all", "--yes", "--json").json == {"dropped": 2, "gone": 0}
    assert (client.xlen(PLACE), client.xlen(WORK)) == (0, 0)


@pytest.mark.parametrize("verb", ["requeue", "drop"])
def test_nothing_happens_unasked_or_by_mistake(lane: tuple[str, Any, list[str]], verb: str) -> None:
    url, client, entries = lane
    for arguments, code in (
        ([MODEL, "--all"], 2),  # nobody can be asked here
        ([MODEL, "--yes"], 2),
        ([MODEL, "--all", entries[0], "--yes"], 2),
        ([MODEL, "all", "--yes"], 2),
        ([MODEL, "1-1", "--yes"], 1),
        (["nobody", "--all", "--yes"], 2),
        (["a}b", "--all", "--yes"], 2),
    ):
        refused = headrace(url, "dlq", verb, *arguments)
        assert (refused.code, refused.out) == (code, "")
        assert len(refused.err.splitlines()) == 1
    assert (client.xlen(PLACE), client.xlen(WORK)) == (3, 0)


def test_a_letter_that_is_no_request_is_shown_all_the_same(lane: tuple[str, Any, list[str]]) -> None:
    url, client, _ = lane
    entry = client.xadd(PLACE, {"reason": "malformed\x1b[31m", "crashes": "x", "m": b"\xc1"}).decode()
    shown = headrace(url, "dlq", "show", MODEL, entry)
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "request.unreadable" in shown.out

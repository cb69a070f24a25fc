"""What the guard finds beside the requests of a lane: replies, reply streams, other databases, keys without expiry.

Each lane is filled by a user whose rights are those of earlier versions, which could SELECT and BLMOVE.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace.lanes import memory_guard
from headrace.lanes.census import Census
from headrace.lanes.memory_guard import MEBIBYTE, Bounds
from headrace.redis import acl
from shared import keys
from shared.redis.client import ServerError, connect
from tests.unit.headrace.operators import MODEL, serve, server

PASSWORD = "only-for-this-test"
GOLD = keys.work(MODEL, "gold")
REPLY = keys.reply(MODEL, "gold", "r")
LOOSE = Bounds(2.0, 1024 * MEBIBYTE)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A client of the administrator, and one of the producer of the lane ``gold`` with rights of old."""
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.hset(keys.lanes(MODEL), "gold", "100,1")
        rule = acl.producer_rule("shop", MODEL, "gold", f">{PASSWORD}").replace("+blpop", "+blmove +blpop")
        head, *selectors = rule.replace("+ping", "+ping +select").split(" (")
        client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
        with connect(f"redis://shop:{PASSWORD}@{urlsplit(url).netloc}/0") as shop:
            yield client, shop


def floods(client: Any, bounds: Bounds = LOOSE) -> list[tuple[str, str, tuple[str, ...]]]:
    """What one look of a guard finds."""
    census = Census(client)
    census.look(1_000_000)
    found = [(one.lane, one.what, one.users) for one in memory_guard.look(client, census, bounds)]
    census.close()
    return found


def test_replies_that_were_moved_where_nothing_expires_are_found_and_expire(place: tuple[Any, Any]) -> None:
    client, shop = place
    client.rpush(REPLY, b"reply")
    client.pexpire(REPLY, 60_000)
    assert floods(client) == []
    for number in range(3):
        shop.blmove(REPLY, f"{REPLY}-{number}", 1, "LEFT", "LEFT")
        client.rpush(REPLY, b"reply")
        client.pexpire(REPLY, 60_000)
    [(lane, what, users)] = floods(client)
    assert (lane, users) == ("gold", ("shop",))
    assert what.startswith(f"has 3 keys that never expire, such as {REPLY}-")
    assert all(0 < client.pttl(f"{REPLY}-{number}") <= 3_600_000 for number in range(3))
    assert 0 < client.pttl(REPLY) <= 60_000
    assert floods(client) == []  # what has a time now is no cause to switch the user off again


def test_what_is_written_to_another_database_is_found(place: tuple[Any, Any]) -> None:
    client, shop = place
    shop.execute_command("SELECT", 3)
    with shop.pipeline(transaction=False) as pipe:
        pipe.execute_command("SELECT", 3)
        pipe.xadd(GOLD, {"m": bytes(100_000)})
        pipe.execute()
    [(lane, what, users)] = floods(client)
    assert (lane, what, users) == ("gold", "has keys where nobody looks: 1 in database 3", ("shop",))
    assert client.execute_command("DBSIZE") > 1  # the guard's own connection is where it was


def test_another_stack_in_another_database_is_nobodys_fault(place: tuple[Any, Any]) -> None:
    client, _ = place
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("SELECT", 3)
        pipe.zadd(keys.MODELS, {MODEL: 1})
        pipe.xadd(GOLD, {"m": b"x"})
        pipe.execute_command("SELECT", 0)
        pipe.execute()
    assert floods(client) == []


@pytest.mark.parametrize("kind", ["replies", "reply streams"])
def test_replies_and_reply_streams_count_as_memory_of_the_lane(place: tuple[Any, Any], kind: str) -> None:
    client, _ = place
    for number in range(6):
        if kind == "replies":
            client.rpush(f"{REPLY}{number}", bytes(MEBIBYTE))
            client.pexpire(f"{REPLY}{number}", 60_000)
        else:
            stream = keys.reply_stream(MODEL, "gold", f"i{number}")
            client.xadd(stream, {"id": "x", "reply": bytes(MEBIBYTE)})
            client.pexpire(stream, 60_000)
    assert floods(client, Bounds(2.0, 8 * MEBIBYTE)) == []
    [(lane, what, users)] = floods(client, Bounds(2.0, 4 * MEBIBYTE))
    assert (lane, users) == ("gold", ("shop",))
    counted = "6 replies and 0 reply streams" if kind == "replies" else "0 replies and 6 reply streams"
    assert counted in what


def test_a_look_goes_through_a_bounded_number_of_keys_and_a_round_ends(place: tuple[Any, Any]) -> None:
    client, _ = place
    with client.pipeline(transaction=False) as pipe:
        for number in range(3_000):
            pipe.set(keys.flight(MODEL, "gold", f"r{number}"), "x", px=60_000)
        pipe.rpush(REPLY, b"x")
        pipe.execute()
    census = Census(client)
    scans = looked(client)
    looks = 0
    while not census.of(MODEL, "gold").endless:
        before = looked(client)
        census.look(1_000)
        assert looked(client) - before <= 2
        looks += 1
        assert looks < 100
    assert looks >= 3
    assert looked(client) - scans >= 6
    census.close()


def looked(client: Any) -> int:
    """How many pages of keys were asked for."""
    return int(client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"])


def test_a_producer_of_today_can_do_neither(place: tuple[Any, Any]) -> None:
    client, _ = place
    head, *selectors = acl.producer_rule("modern", MODEL, "gold", f">{PASSWORD}").split(" (")
    client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
    other = f"{REPLY}-2"
    for command in (
        ("SELECT", "1"),
        ("MOVE", REPLY, "1"),
        ("BLMOVE", REPLY, other, "LEFT", "LEFT", "1"),
        ("LMOVE", REPLY, other, "LEFT", "LEFT"),
        ("RPOPLPUSH", REPLY, other),
        ("BRPOPLPUSH", REPLY, other, "1"),
        ("SMOVE", REPLY, other, "x"),
        ("COPY", REPLY, other),
        ("COPY", REPLY, REPLY, "DB", "1"),
        ("RENAME", REPLY, other),
        ("RENAMENX", REPLY, other),
        ("SORT", REPLY, "STORE", other),
        ("ZRANGESTORE", REPLY, other, "0", "1"),
        ("BITOP", "NOT", REPLY, other),
        ("RESTORE", REPLY, "0", "x"),
        ("PERSIST", REPLY),
        ("GETEX", REPLY, "PERSIST"),
        ("SWAPDB", "0", "1"),
        ("FCALL", "hr1_admit", "1", GOLD, "1", "", "", "0", "0"),
    ):
        answer = client.execute_command("ACL", "DRYRUN", "modern", *command)
        assert b"no permissions" in answer, command
    with pytest.raises(ServerError):
        client.execute_command("ACL", "DRYRUN", "nobody", "PING")

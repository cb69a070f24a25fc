"""`headrace lane` on a real server: lanes are made, changed, repaired and taken away, and a flooder is switched off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace.redis import acl
from shared import keys, limits
from shared.redis import library
from shared.redis.client import RedisError, connect
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ROOT, Output, clean_environment
from tests.embedded import EmbeddedServer
from tests.helpers import eventually
from tests.unit.headrace.operators import MODEL, add, headrace, serve, server

HIGHEST = "18446744073709551615-18446744073709551615"
GOLD = keys.work(MODEL, "gold")
PASSWORD = "only-for-this-test"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A server with a model on it: its address and a client."""
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        yield url, client


def lanes(url: str) -> dict[str, dict[str, Any]]:
    return {one["lane"]: one for one in headrace(url, "lane", "list", MODEL, "--json").json["lanes"]}


def test_a_lane_is_made_changed_and_taken_away(place: tuple[str, Any]) -> None:
    url, client = place
    made = headrace(url, "lane", "create", MODEL, "gold", "--limit", "500", "--weight", "4", "--json")
    assert (made.code, made.json["created"]) == (0, "gold")
    assert client.hget(keys.lanes(MODEL), "gold") == b"500,4"
    assert client.xinfo_groups(GOLD)[0]["name"] == keys.GROUP.encode()
    assert (lanes(url)["default"]["limit"], lanes(url)["gold"]["weight"]) == (2048, 4.0)
    assert headrace(url, "lane", "create", MODEL, "gold").code == 1
    assert headrace(url, "lane", "limit", MODEL, "gold", "7").code == 0
    assert headrace(url, "lane", "limit", MODEL, "gold", "--weight", "0.5").code == 0
    assert client.hget(keys.lanes(MODEL), "gold") == b"7,0.5"
    listed = headrace(url, "lane", "list", MODEL)
    assert [line.split()[:4] for line in listed.out.splitlines()[1:]] == [
        ["default", "ordinary", "2048", "1"],
        ["gold", "ordinary", "7", "0.5"],
    ]
    seen = headrace(url, "status", "--interval", "0", "--json").json["models"][0]["lanes"]
    assert [(one["lane"], one["weight"]) for one in seen] == [("default", 1.0), ("gold", 0.5)]
    client.xadd(GOLD, {"m": b"x"})
    asked = headrace(url, "lane", "remove", MODEL, "gold")
    assert (asked.code, "1 requests" in asked.err, client.exists(GOLD)) == (2, True, 1)
    assert headrace(url, "lane", "remove", MODEL, "gold", "--yes").code == 0
    assert (client.exists(GOLD), list(lanes(url))) == (0, ["default"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", MODEL, "no name"),
        ("create", "a}b", "gold"),
        ("create", "nobody", "gold"),
        ("create", MODEL, "gold", "--limit", "0"),
        ("create", MODEL, "gold", "--weight", "0"),
        ("create", MODEL, "gold", "--weight", "nan"),
        ("limit", MODEL, "gold", "5"),
        ("limit", MODEL, "default"),
        ("repair", MODEL, "gold", "--yes"),
        ("repair", MODEL, "default"),
        ("remove", MODEL, "default", "--yes"),
        ("remove", MODEL, "gold", "--yes"),
        ("list", "nobody"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(place: tuple[str, Any], arguments: tuple[str, ...]) -> None:
    url, client = place
    before = client.hgetall(keys.lanes(MODEL))
    said = headrace(url, "lane", *arguments)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert client.hgetall(keys.lanes(MODEL)) == before


def test_a_lane_with_the_highest_id_is_found_and_repaired(place: tuple[str, Any]) -> None:
    url, client = place
    headrace(url, "lane", "create", MODEL, "gold", "--limit", "3")
    for number in range(4):
        client.xadd(GOLD, {"m": b"%d" % number})
    client.xadd(GOLD, {"m": b"highest"}, id=HIGHEST)
    found = {one["check"]: one for one in headrace(url, "doctor", "--json").json["findings"]}
    assert found[f"lane {MODEL}/gold"]["state"] == "problem"
    assert f"lane repair {MODEL} gold" in found[f"lane {MODEL}/gold"]["detail"]
    asked = headrace(url, "lane", "repair", MODEL, "gold")
    assert (asked.code, "2 are dropped" in asked.err) == (2, True)
    done = headrace(url, "lane", "repair", MODEL, "gold", "--yes", "--json").json
    assert (done["kept"], done["dropped"]) == (3, 2)
    client.xadd(GOLD, {"m": b"more"})
    assert [fields[b"m"] for _, fields in client.xrange(GOLD)] == [b"0", b"1", b"2", b"more"]
    assert headrace(url, "lane", "repair", MODEL, "gold", "--yes", "--keep", "1").code == 0
    assert client.xlen(GOLD) == 1


def user(client: Any, line: str) -> None:
    head, *selectors = line.split(" (")
    client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({selector}" for selector in selectors))


def switched_on(client: Any) -> set[str]:
    users = {raw.decode() for raw in client.execute_command("ACL", "USERS")}
    return {name for name in users if "on" in client.acl_getuser(name)["flags"]}


def test_who_floods_its_lane_is_switched_off_and_nobody_else(place: tuple[str, Any]) -> None:
    url, client = place
    headrace(url, "lane", "create", MODEL, "gold", "--limit", "10")
    for role in acl.ROLES:
        user(client, acl.rule(role, f">{PASSWORD}"))
    for name, one in (("shop", "gold"), ("other", "silver"), ("main", "default")):
        user(client, acl.producer_rule(name, MODEL, one, f">{PASSWORD}"))
    everybody = switched_on(client)
    with connect(f"redis://shop:{PASSWORD}@{urlsplit(url).netloc}/0") as shop:
        for number in range(20):
            shop.xadd(GOLD, {"m": b"%d" % number})
        quiet = headrace(url, "lane", "guard", "--once")
        assert (quiet.code, switched_on(client)) == (0, everybody)
        shop.xadd(GOLD, {"m": b"one too many"})
        details = {one["check"]: one for one in headrace(url, "doctor", "--json").json["findings"]}
        assert "lane guard" in details[f"lane {MODEL}/gold"]["detail"]
        caught = headrace(url, "lane", "guard", "--once", "--json")
        assert (caught.code, caught.json["floods"]) == (
            1,
            [
                {
                    "model": MODEL,
                    "lane": "gold",
                    "depth": 21,
                    "limit": 10,
                    "memory_bytes": client.memory_usage(GOLD, samples=0),
                    "what": "holds 21 requests, its limit is 10",
                    "users": ["shop"],
                }
            ],
        )
        with pytest.raises(RedisError):
            shop.xadd(GOLD, {"m": b"again"})
        with pytest.raises(RedisError):  # on a new connection, too
            shop.xadd(GOLD, {"m": b"again"})
    assert everybody - switched_on(client) == {"shop"}
    again = headrace(url, "lane", "guard", "--once")
    assert (again.code, "nobody was switched off" in again.out) == (1, True)


def test_a_guard_that_keeps_watching(place: tuple[str, Any]) -> None:
    url, client = place
    headrace(url, "lane", "create", MODEL, "gold", "--limit", "2")
    user(client, acl.producer_rule("shop", MODEL, "gold", f">{PASSWORD}"))
    guard = subprocess.Popen(
        [sys.executable, "-m", "headrace", "lane", "guard", "--interval", "0.05"],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=url),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout is not None
    output = Output(guard.stdout)
    try:
        add(client, 20)  # to another lane, and within its limit
        for number in range(5):
            client.xadd(GOLD, {"m": b"%d" % number})
        said = output.first(lambda line: line if "switched off" in line else None, 20.0)
        assert said is not None
        assert "lane gold of echo holds" in said
        assert "`ACL SETUSER shop on`" in said
    finally:
        guard.kill()
        guard.wait()
        output.close()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (keys.terminations(MODEL, "gold"), "where 4 MiB are plenty"),
        (GOLD, "of memory, and may take 4 MiB"),
    ],
)
def test_who_fills_the_memory_is_switched_off_though_the_lane_is_short(
    place: tuple[str, Any], stream: str, said: str
) -> None:
    url, client = place
    headrace(url, "lane", "create", MODEL, "gold", "--limit", "10")
    user(client, acl.producer_rule("shop", MODEL, "gold", f">{PASSWORD}"))
    client.xadd(stream, {"m": bytes(2 * limits.ENDS_BYTES // 5)})
    bounds = ("--memory-mib", "4")
    assert headrace(url, "lane", "guard", "--once", *bounds).code == 0
    client.xadd(stream, {"m": bytes(limits.ENDS_BYTES)})
    caught = headrace(url, "lane", "guard", "--once", *bounds)
    assert (caught.code, said in caught.out, "switched off shop " in caught.out) == (1, True, True)
    assert headrace(url, "lane", "repair", MODEL, "gold", "--yes", "--keep", "0").code == 0
    assert headrace(url, "lane", "guard", "--once", *bounds).code == 0
    client.xadd(keys.terminations(MODEL, "gold"), {"entry": "1-1"})
    assert headrace(url, "lane", "remove", MODEL, "gold", "--yes").code == 0
    assert client.exists(keys.terminations(MODEL, "gold")) == 0


class Guard:
    """A guard that keeps watching, and what it says on either stream."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "headrace", "lane", "guard", "--interval", "0.05", *arguments],
            cwd=ROOT,
            env=clean_environment(HEADRACE_REDIS_URL=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self.out, self.err = Output(self._popen.stdout), Output(self._popen.stderr)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self.out.close()
        self.err.close()


def flood(client: Any) -> None:
    user(client, acl.producer_rule("shop", MODEL, "gold", f">{PASSWORD}"))
    for number in range(5):
        client.xadd(GOLD, {"m": b"%d" % number})


def test_a_guard_goes_on_after_an_outage_and_says_so_once(tmp_path: Path) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "always", 64)) as running:
        with connect(running.url) as client:
            library.load(client)
            serve(running.url)
            headrace(running.url, "lane", "create", MODEL, "gold", "--limit", "2")
        with Guard(running.url, "--json") as guard:
            for count in (1, 2):  # users are not kept over a restart, the lane and its limit are
                with connect(running.url) as client:
                    flood(client)
                    eventually(lambda: len(switched_off(guard)) == count, 20.0)  # noqa: B023 - called at once
                if count == 1:
                    running.kill()
                    assert guard.err.first(lambda line: "trying on" in line, 20.0)
                    running.start()
                    assert guard.err.first(lambda line: "watched again" in line, 20.0)
            assert switched_off(guard) == [["shop"], ["shop"]]
            assert len(guard.err.lines) == 2


def switched_off(guard: Guard) -> list[list[str]]:
    """Whom it has switched off, flood by flood."""
    found = [json.loads(line)["users"] for line in guard.out.lines]
    return [users for users in found if users]


def test_a_guard_tells_once_of_a_flood_that_nobody_can_be_switched_off_for(place: tuple[str, Any]) -> None:
    url, client = place
    headrace(url, "lane", "create", MODEL, "gold", "--limit", "2")
    headrace(url, "lane", "create", MODEL, "silver", "--limit", "2")
    for number in range(5):
        client.xadd(GOLD, {"m": b"%d" % number})
    with Guard(url) as guard:
        assert guard.out.first(lambda line: "lane gold" in line, 20.0)
        looks = looked(client)
        eventually(lambda: looked(client) > looks + 20)
        for number in range(5):
            client.xadd(keys.work(MODEL, "silver"), {"m": b"%d" % number})
        assert guard.out.first(lambda line: "lane silver" in line, 20.0)
        assert len(guard.out.lines) == 2


def looked(client: Any) -> int:
    """How often somebody has asked who the users are."""
    return int(client.info("commandstats")["cmdstat_acl|users"]["calls"])


def test_a_guard_that_may_not_look_says_so_and_ends(place: tuple[str, Any]) -> None:
    url, client = place
    user(client, acl.rule("operator", f">{PASSWORD}"))
    said = headrace(f"redis://operator:{PASSWORD}@{urlsplit(url).netloc}/0", "lane", "guard")
    assert (said.code, len(said.err.splitlines())) == (1, 1)


def test_a_lane_has_a_limit_in_bytes(place: tuple[str, Any]) -> None:
    url, client = place
    assert lanes(url)["default"]["limit_bytes"] > 0
    assert headrace(url, "lane", "create", MODEL, "gold", "--bytes", "3000000").code == 0
    assert client.hget(keys.lanes(MODEL), "gold:bytes") == b"3000000"
    client.xadd(GOLD, {"m": bytes(500_000)})
    gold = lanes(url)["gold"]
    assert (gold["limit_bytes"], gold["stored_bytes"], gold["queued_bytes"] > 500_000) == (3_000_000, 0, True)
    assert headrace(url, "lane", "limit", MODEL, "gold", "--bytes", "4194304", "--json").json["limit_bytes"] == 4194304
    assert headrace(url, "lane", "limit", MODEL, "default", "--bytes", "5000000").code == 0
    assert lanes(url)["default"]["limit_bytes"] == 5_000_000
    assert client.hget(keys.lanes(MODEL), "gold") == b"2048,1"
    assert headrace(url, "lane", "limit", MODEL, "gold", "9", "--bytes", "9000000").code == 0
    assert (lanes(url)["gold"]["limit"], lanes(url)["gold"]["limit_bytes"]) == (9, 9_000_000)
    for wrong in ("0", "-1", "1048575", "many", str(1 << 60)):
        assert headrace(url, "lane", "limit", MODEL, "gold", "--bytes", wrong).code == 2
    assert "0.5" in headrace(url, "lane", "list", MODEL).out
    seen = headrace(url, "status", "--interval", "0", "--json").json["models"][0]["lanes"]
    assert [one["limit_bytes"] for one in seen] == [5_000_000, 9_000_000]
    assert headrace(url, "lane", "remove", MODEL, "gold", "--yes").code == 0
    assert client.hexists(keys.lanes(MODEL), "gold:bytes") == 0

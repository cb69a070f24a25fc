"""What each role of the ACL rules may do, and above all what it must not, tried on real servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace import acl
from shared import functions, keys
from shared.embedded import EmbeddedServer, ServerConfig, answers, find_server, free_port, server_argv
from shared.redis import ClientError, ServerError, connect
from tests.children import ROOT, clean_environment
from tests.helpers import eventually

PASSWORD = "only-for-this-test"
MODEL = "echo"
WORK = keys.work(MODEL, "default")
OTHER_WORK = keys.work(MODEL, "other")
REPLY = keys.reply(MODEL, "default", "r1")


def make_users(client: Any) -> None:
    lines = [acl.rule(role, f">{PASSWORD}") for role in acl.ROLES]
    lines.append(acl.producer_rule("producer", MODEL, "default", f">{PASSWORD}"))
    for line in lines:
        # A selector in brackets is one argument.
        head, *selectors = line.split(" (")
        arguments = [*head.split(), *(f"({selector}" for selector in selectors)]
        client.execute_command("ACL", "SETUSER", *arguments[1:])


class Server:
    """A server with users, functions and one lane that is set up."""

    def __init__(self, url: str) -> None:
        self.place = urlsplit(url).netloc
        with connect(url) as client:
            functions.load(client)
            make_users(client)
            client.fcall(functions.HEARTBEAT, 1, WORK, "w1", 15000, 100, 0)
            client.fcall(functions.HEARTBEAT, 1, OTHER_WORK, "w1", 15000, 100, 0)
            client.rpush(keys.reply(MODEL, "other", "r1"), b"secret")

    def does(self, user: str, *command: Any) -> Any:
        """Do something as a user."""
        with connect(f"redis://{user}:{PASSWORD}@{self.place}/0") as client:
            return client.execute_command(*command)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with EmbeddedServer(ServerConfig(tmp_path_factory.mktemp("acl"), free_port(), "no", 64)) as running:
        yield Server(running.url)


ADMINISTRATION: list[tuple[Any, ...]] = [
    ("FUNCTION", "LOAD", "REPLACE", functions.source()),
    ("FUNCTION", "FLUSH"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("CONFIG", "GET", "*"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "me", "on"),
    ("XGROUP", "DESTROY", WORK, keys.GROUP),
    ("EVAL", "return 1", 0),
    ("SHUTDOWN", "NOSAVE"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "NO", "ONE"),
    ("SAVE",),
    ("SET", "somebody-elses-key", "1"),
    ("GET", "somebody-elses-key"),
]


@pytest.mark.parametrize("user", ["front_end", "consumer", "producer"])
@pytest.mark.parametrize("command", ADMINISTRATION, ids=lambda command: " ".join(map(str, command[:2])))
def test_nobody_but_the_administrator_administers(server: Server, user: str, command: tuple[Any, ...]) -> None:
    with pytest.raises(ServerError, match=r"(?i)no permissions|can't run this command"):
        server.does(user, *command)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("front_end", ("RPUSH", REPLY, "forged")),
        ("front_end", ("XREADGROUP", "GROUP", keys.GROUP, "me", "COUNT", 1, "STREAMS", WORK, ">")),
        ("front_end", ("XACK", WORK, keys.GROUP, "1-1")),
        ("front_end", ("XDEL", WORK, "1-1")),
        ("front_end", ("HSET", keys.card(MODEL), "name", "forged")),
        ("front_end", ("ZADD", keys.MODELS, 1, "forged")),
        ("producer", ("XADD", OTHER_WORK, "*", "m", "x")),
        ("producer", ("XADD", keys.reply_stream(MODEL, "default", "fe"), "*", "id", "x")),
        ("producer", ("RPUSH", REPLY, "forged")),
        ("producer", ("LINDEX", keys.reply(MODEL, "other", "r1"), 0)),
        ("producer", ("BLPOP", keys.reply(MODEL, "other", "r1"), 1)),
        ("producer", ("XREAD", "STREAMS", keys.reply_stream(MODEL, "other", "fe"), "0")),
        ("producer", ("XREAD", "STREAMS", WORK, "0")),
        ("producer", ("XRANGE", WORK, "-", "+")),
        ("producer", ("XTRIM", WORK, "MAXLEN", 0)),
        ("producer", ("DEL", WORK)),
        ("producer", ("UNLINK", WORK)),
        ("producer", ("LINDEX", WORK, 0)),
        ("producer", ("FCALL", functions.COMMIT, 1, WORK, 10, 1000, 100)),
        ("producer", ("HGETALL", keys.card(MODEL))),
        ("producer", ("BLMOVE", REPLY, keys.reply(MODEL, "other", "r1"), "LEFT", "LEFT", 1)),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(map(str, part[:2])),
)
def test_what_a_role_must_not_do(server: Server, user: str, command: tuple[Any, ...]) -> None:
    with pytest.raises(ServerError, match=r"(?i)no permissions"):
        server.does(user, *command)


def test_a_front_end_cannot_commit_through_the_function(server: Server) -> None:
    entry = server.does("producer", "XADD", WORK, "*", "m", "x")
    server.does("consumer", "XREADGROUP", "GROUP", keys.GROUP, "me", "STREAMS", WORK, ">")
    for user in ("front_end", "producer"):
        try:
            [status] = server.does(user, "FCALL", functions.COMMIT, 1, WORK, 10, 1000, 100, entry, "r9", "", 1000, "x")
        except ServerError:
            continue
        assert status not in (1, 2)
    assert server.does("administrator", "EXISTS", keys.reply(MODEL, "default", "r9")) == 0


def test_each_role_can_do_its_work(server: Server) -> None:
    admitted = server.does(
        "front_end", "FCALL", functions.ADMIT, 1, WORK, 100, "fe", "0-0", 1, 1, "old", "r2", "1", b"message"
    )
    entry = admitted[1]
    assert b"-" in entry
    direct = server.does("producer", "XADD", WORK, "NOMKSTREAM", "*", "m", b"message")
    beat = server.does(
        "consumer", "FCALL", functions.HEARTBEAT, 1, WORK, "w2", 15000, 100, 2, "pid", "1", "name", '"echo"'
    )
    assert beat[0] > 0
    server.does("consumer", "ZADD", keys.MODELS, 1, MODEL)
    server.does("consumer", "XREADGROUP", "GROUP", keys.GROUP, "w2", "COUNT", 10, "STREAMS", WORK, ">")
    arguments = (entry, "r2", "fe", 60000, b"reply", direct, "r3", "direct", 60000, b"reply")
    assert server.does("consumer", "FCALL", functions.COMMIT, 1, WORK, 100, 60000, 16384, *arguments) == [1, 1]
    streams = server.does("front_end", "XREAD", "COUNT", 10, "STREAMS", keys.reply_stream(MODEL, "default", "fe"), "0")
    assert streams
    assert server.does("front_end", "LINDEX", keys.reply(MODEL, "default", "r2"), 0) == b"reply"
    own = keys.reply(MODEL, "default", "r3")
    assert server.does("producer", "BLMOVE", own, own, "LEFT", "LEFT", 1) == b"reply"
    assert server.does("producer", "XREAD", "STREAMS", keys.reply_stream(MODEL, "default", "direct"), "0")
    assert server.does("producer", "BLPOP", own, 1)
    assert server.does("consumer", "FCALL", functions.LEAVE, 1, WORK, "w2") == 0
    for command in (("ZREVRANGE", keys.MODELS, 0, 9), ("HGETALL", keys.card(MODEL)), ("XLEN", WORK), ("TIME",)):
        assert server.does("front_end", *command)


def test_a_wrong_password_and_a_hostile_name_are_refused(server: Server) -> None:
    with (
        connect(f"redis://producer:wrong@{server.place}/0") as client,
        pytest.raises(ClientError, match=r"(?i)password"),
    ):
        client.ping()
    for name in ("a b", "m}:q:x", "*"):
        with pytest.raises(ValueError, match="must be 1 to 64 letters"):
            acl.producer_rule("p", name, "default", "nopass")
        with pytest.raises(ValueError, match="must be 1 to 64 letters"):
            acl.producer_rule("p", "m", name, "nopass")


def test_what_the_command_prints_is_a_file_of_rules_and_lets_nobody_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace", "acl", "print", "--producer", "shop", MODEL, "gold"]
    printed = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True)
    lines = printed.stdout.splitlines()
    assert [line.split()[1] for line in lines] == [*acl.ROLES, "shop"]
    rules = tmp_path / "users.acl"
    rules.write_text(printed.stdout)
    config = ServerConfig(tmp_path / "data", free_port(), "no", 64)
    config.data_dir.mkdir()
    server = subprocess.Popen(
        [*server_argv(find_server(), config), "--aclfile", str(rules)], stdout=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: answers(config.port) or server.poll() is not None)
        assert server.poll() is None
        with connect(f"redis://shop:anything@127.0.0.1:{config.port}/0") as client, pytest.raises(ClientError):
            client.ping()
        with connect(f"redis://127.0.0.1:{config.port}/0") as client:
            assert set(client.acl_users()) == {"default", "shop", *acl.ROLES}
    finally:
        server.kill()
        server.communicate()
    refused = subprocess.run([*command[:5], "shop", "a b", "gold"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2

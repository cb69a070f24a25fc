"""What each role of the ACL rules may do, and above all what it must not, tried on real servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumer.queue.redis_terminations import TerminationsReader
from headrace.redis import acl
from producer_api.console.redis_access import is_not_allowed
from shared import keys
from shared.redis import functions, library
from shared.redis.client import RedisError, ServerError, SyncLink, connect
from shared.redis.embedded import ServerConfig, answers, find_server, free_port, server_argv
from tests.children import ROOT, clean_environment
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

PASSWORD = "only-for-this-test"
MODEL = "echo"
REFUSED = r"(?i)no permissions|can't run this command|can't access|not allowed|ACL failure"
"""In the words of Valkey and of each version of Redis."""
WORK = keys.work(MODEL, "default")
OTHER_WORK = keys.work(MODEL, "other")
REPLY = keys.reply(MODEL, "default", "r1")


def make_users(client: Any) -> None:
    lines = [acl.rule(role, f">{PASSWORD}") for role in acl.ROLES]
    lines.append(acl.producer_rule("producer", MODEL, "default", f">{PASSWORD}"))
    lines.append(acl.rule("consumer", f">{PASSWORD}", "cats").replace("user consumer", "user cats-only"))
    for line in lines:
        # A selector in brackets is one argument.
        head, *selectors = line.split(" (")
        arguments = [*head.split(), *(f"({selector}" for selector in selectors)]
        client.execute_command("ACL", "SETUSER", *arguments[1:])


class Server:
    """A server with users, functions and two lanes that are set up."""

    def __init__(self, url: str) -> None:
        self.place = urlsplit(url).netloc
        with connect(url) as client:
            library.load(client)
            make_users(client)
            for key in (WORK, OTHER_WORK):
                client.fcall(functions.HEARTBEAT, 1, key, "w1", 3_600_000, 100, 0)
            client.rpush(keys.reply(MODEL, "other", "r1"), b"secret")

    def does(self, user: str, *command: Any) -> Any:
        """Do something as a user."""
        with connect(f"redis://{user}:{PASSWORD}@{self.place}/0") as client:
            return client.execute_command(*command)

    def call(self, user: str, function: str, *arguments: Any) -> Any:
        """Call a function on the lane as a user."""
        return self.does(user, "FCALL", function, 1, WORK, *arguments)

    def admit(self, request_id: str) -> Any:
        """Put a request into the lane as the front end does; its entry."""
        return self.call("front_end", functions.ADMIT, 100, "fe", "0-0", 0, 1, request_id, "0", b"message")[1]

    def claim(self, worker: str) -> None:
        """Claim what waits as a consumer."""
        self.does("consumer", "XREADGROUP", "GROUP", keys.GROUP, worker, "STREAMS", WORK, ">")


@contextmanager
def debian_redis(folder: Path) -> Iterator[str]:
    """A Redis 7 that is installed here; its address."""
    folder.mkdir()
    config = ServerConfig(folder, free_port(), "no", 64)
    executable = shutil.which("redis-server")
    assert executable is not None
    server = subprocess.Popen(server_argv(Path(executable), config), stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: answers(config.port) or server.poll() is not None)
        assert server.poll() is None
        yield f"redis://127.0.0.1:{config.port}/0"
    finally:
        server.kill()
        server.communicate()


def has_redis_7() -> bool:
    executable = shutil.which("redis-server")
    if executable is None:
        return False
    return "v=7." in subprocess.run([executable, "--version"], capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded Valkey, and Redis 7: the one that is installed, else one in a container, else it is skipped."""
    folder = tmp_path_factory.mktemp("acl")
    if request.param == "valkey":
        with EmbeddedServer(ServerConfig(folder, free_port(), "no", 64)) as running:
            yield Server(running.url)
    elif has_redis_7():
        with debian_redis(folder / "data") as url:
            yield Server(url)
    else:
        yield Server(request.getfixturevalue("redis7_url"))


ADMINISTRATION: list[tuple[Any, ...]] = [
    ("FUNCTION", "LOAD", "REPLACE", library.source()),
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
    ("FUNCTION", "DELETE", "headrace1"),
    ("FUNCTION", "LIST"),
    ("CONFIG", "RESETSTAT"),
    ("DEBUG", "SLEEP", 0),
    ("SCRIPT", "FLUSH"),
    ("SWAPDB", 0, 1),
    ("RENAME", WORK, OTHER_WORK),
    ("DUMP", WORK),
    ("RESTORE", WORK, 0, "x"),
    ("XSETID", WORK, "18446744073709551615-1"),
    ("XGROUP", "SETID", WORK, keys.GROUP, "$"),
    ("PUBLISH", "anything", "x"),
    ("SET", "somebody-elses-key", "1"),
    ("GET", "somebody-elses-key"),
    ("ECHO", "what comes back"),
    ("SELECT", 1),
    ("COPY", REPLY, keys.reply(MODEL, "default", "r2")),
    ("SORT", REPLY, "STORE", keys.reply(MODEL, "default", "r2")),
    ("BLMOVE", REPLY, REPLY, "LEFT", "LEFT", 1),
    ("CLIENT", "GETNAME"),
    ("SUBSCRIBE", "anything"),
]


@pytest.mark.parametrize("user", [*(role for role in acl.ROLES if role != acl.ADMINISTRATOR), "producer"])
@pytest.mark.parametrize("command", ADMINISTRATION, ids=lambda command: " ".join(map(str, command[:2])))
def test_nobody_but_the_administrator_administers(server: Server, user: str, command: tuple[Any, ...]) -> None:
    with pytest.raises(ServerError, match=r"(?i)no permissions|can't run this command|not allowed"):
        server.does(user, *command)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("front_end", ("RPUSH", REPLY, "forged")),
        ("front_end", ("XREADGROUP", "GROUP", keys.GROUP, "me", "COUNT", 1, "STREAMS", WORK, ">")),
        ("front_end", ("XTRIM", WORK, "MAXLEN", 0)),
        ("front_end", ("UNLINK", WORK)),
        ("front_end", ("SET", keys.reply(MODEL, "default", "r1"), "forged")),
        ("front_end", ("XADD", keys.reply_stream(MODEL, "default", "fe"), "*", "id", "forged")),
        ("front_end", ("XADD", keys.dead_letters(MODEL, "default"), "*", "m", "forged")),
        ("front_end", ("HSET", keys.desired_state(MODEL), "serving", "paused")),
        ("front_end", ("HSET", keys.card(MODEL), "name", "forged")),
        ("front_end", ("ZADD", keys.MODELS, 1, "forged")),
        ("operator", ("RPUSH", REPLY, "forged")),
        ("operator", ("LINDEX", keys.reply(MODEL, "other", "r1"), 0)),
        ("operator", ("XREADGROUP", "GROUP", keys.GROUP, "me", "COUNT", 1, "STREAMS", WORK, ">")),
        ("operator", ("XACK", WORK, keys.GROUP, "1-1")),
        ("operator", ("XTRIM", WORK, "MAXLEN", 0)),
        ("operator", ("HSET", keys.card(MODEL), "name", "forged")),
        ("operator", ("ZADD", keys.MODELS, 1, "forged")),
        ("operator", ("ZREM", keys.MODELS, MODEL)),
        ("operator", ("XADD", keys.dead_letters(MODEL, "default"), "*", "m", "forged")),
        ("health", ("GET", keys.desired_state(MODEL))),
        ("health", ("INFO",)),
        ("cats-only", ("XLEN", WORK)),
        ("cats-only", ("RPUSH", REPLY, "forged")),
        ("cats-only", ("FCALL", functions.HEARTBEAT, 1, WORK, "w9", 1000, 100, 0)),
        ("cats-only", ("XADD", WORK, "*", "m", "x")),
        ("producer", ("XADD", keys.work("cats", "default"), "*", "m", "x")),
        ("producer", ("LINDEX", keys.reply("cats", "default", "r1"), 0)),
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


def documented() -> dict[str, list[str]]:
    """What docs/security.md says that each role cannot do."""
    lines = (ROOT / "docs" / "security.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.count("|") == 4]
    head = rows.index(["role", "does", "cannot"])
    return {role.strip("`"): cannot.split(", ") for role, _, cannot in rows[head + 2 :]}


WRITE_REPLIES: list[tuple[Any, ...]] = [("RPUSH", REPLY, "x"), ("SET", REPLY, "x"), ("LPUSH", REPLY, "x")]
READ_REPLIES: list[tuple[Any, ...]] = [
    ("LINDEX", REPLY, 0),
    ("LRANGE", REPLY, 0, -1),
    ("BLPOP", REPLY, 1),
    ("LPOP", REPLY),
]
CHANGE_CARDS: list[tuple[Any, ...]] = [("HSET", keys.card(MODEL), "name", "x"), ("UNLINK", keys.card(MODEL))]
CHANGE_WISHES: list[tuple[Any, ...]] = [
    ("HSET", keys.desired_state(MODEL), "serving", "paused"),
    ("UNLINK", keys.desired_state(MODEL)),
]
CANNOT: dict[str, list[tuple[Any, ...]]] = {
    "write replies": WRITE_REPLIES,
    "read or write replies": [*WRITE_REPLIES, *READ_REPLIES],
    "claim work": [
        ("XREADGROUP", "GROUP", keys.GROUP, "me", "COUNT", 1, "STREAMS", WORK, ">"),
        ("XCLAIM", WORK, keys.GROUP, "me", 0, "1-1"),
        ("XAUTOCLAIM", WORK, keys.GROUP, "me", 0, "0"),
    ],
    "empty a lane": [("XTRIM", WORK, "MAXLEN", 0), ("UNLINK", WORK), ("XADD", WORK, "MAXLEN", 0, "*", "m", "x")],
    "end work": [("XACK", WORK, keys.GROUP, "1-1"), ("XDEL", WORK, "1-1"), ("UNLINK", WORK)],
    "change cards": CHANGE_CARDS,
    "change cards or desired states": [*CHANGE_CARDS, *CHANGE_WISHES],
    "add dead letters": [("XADD", keys.dead_letters(MODEL, "default"), "*", "m", "forged")],
    "load functions": [("FUNCTION", "LOAD", "REPLACE", library.source()), ("FUNCTION", "FLUSH")],
    "configure": [("CONFIG", "SET", "maxmemory", "0"), ("CONFIG", "GET", "*")],
    "flush": [("FLUSHALL",), ("FLUSHDB",)],
    "destroy groups": [("XGROUP", "DESTROY", WORK, keys.GROUP)],
    "touch keys outside `hr:`": [("SET", "elsewhere", "x"), ("GET", "elsewhere"), ("UNLINK", "elsewhere")],
    "anything else": [("INFO",), ("GET", keys.desired_state(MODEL)), ("XLEN", WORK)],
    "see or touch anything else": [("XLEN", WORK), ("XADD", OTHER_WORK, "*", "m", "x"), ("HGETALL", keys.card(MODEL))],
    "read other lanes' replies": [("LINDEX", keys.reply(MODEL, "other", "r1"), 0)],
}
"""How one would try what the documentation says a role cannot do."""


def test_what_the_documentation_says_a_role_cannot_do_is_refused(server: Server) -> None:
    users = {"a direct producer": "producer"}
    found = documented()
    assert {users.get(role, role) for role in found} == {*acl.ROLES, "producer"}
    assert found.pop(acl.ADMINISTRATOR) == [""]
    for role, phrases in found.items():
        for command in (command for phrase in phrases for command in CANNOT[phrase]):
            with pytest.raises(ServerError, match=r"(?i)no permissions|can't run this command|not allowed"):
                server.does(users.get(role, role), *command)


def test_what_the_documentation_says_that_no_rule_can_forbid(server: Server) -> None:
    """Should a server have a rule for it one day, the sentence is to go."""
    work = keys.work(MODEL, "spare")

    def add() -> Any:
        return server.does("front_end", "XADD", work, "*", "m", "x")

    for user in ("front_end", "operator"):
        add()
        assert server.does(user, "XDEL", work, add()) == 1
        server.does(user, "XADD", work, "MAXLEN", 0, "*", "m", "x")
        assert server.does("administrator", "XLEN", work) == 0
    assert server.does("operator", "UNLINK", work) == 1


def test_a_consumer_whose_rules_are_older_still_hears_of_ends(server: Server) -> None:
    """It may not ask for the size of a stream."""
    ends = keys.terminations(MODEL, "older")
    with connect(f"redis://administrator:{PASSWORD}@{server.place}/0") as client:
        head, *selectors = acl.rule("consumer", f">{PASSWORD}").replace("+memory|usage ", "").split(" (")
        arguments = [*head.replace("user consumer", "user older").split()[1:], *(f"({one}" for one in selectors)]
        client.execute_command("ACL", "SETUSER", *arguments)
        client.xadd(ends, {"entry": "1-1"})
    with connect(f"redis://older:{PASSWORD}@{server.place}/0") as client:
        with pytest.raises(ServerError, match=r"(?i)no permissions"):
            client.memory_usage(ends)
        link = SyncLink(client)
        assert TerminationsReader(link, MODEL, 10).read(["older"]) == [("older", b"1-1")]
        link.close()


def functions_by_source() -> dict[str, set[str]]:
    """The commands inside each function of the library, read from its text."""
    text = library.source()
    blocks = {found[1]: found[0] for found in re.finditer(r"^local function (\w+)\(.*?^end$", text, re.M | re.S)}
    blocks |= {found[1]: found[0] for found in re.finditer(r"^register\('(\w+)'.*?^end\)$", text, re.M | re.S)}
    return {name: commands_in(blocks, name, set()) for name in library.names()}


def commands_in(blocks: dict[str, str], name: str, seen: set[str]) -> set[str]:
    """The commands that a local function calls, itself or through others."""
    seen.add(name)
    body = "\n".join(line.split("--")[0] for line in blocks[name].splitlines())
    calls = re.findall(r"redis\.p?call\(\s*(?:'([A-Z]+)'(?:, '([A-Z]+)')?|(unpack\(command\)))", body)
    assert len(calls) == len(re.findall(r"redis\.p?call\b", body)), f"{name}: a command that this test cannot read"
    calls += [(command, "", "") for command in re.findall(r"command = \{ '([A-Z]+)'", body)]
    commands = {
        f"{word}|{second}" if second and word in ("MEMORY", "XGROUP", "XINFO") else word for word, second, _ in calls
    }
    for other in blocks:
        calls_it = rf"(?<![\w.']){other}\(|pcall\(\s*{other}\b"
        if other not in seen and re.search(calls_it, body.split("\n", 1)[1]):
            commands |= {command.upper() for command in commands_in(blocks, other, seen)}
    return {command.lower() for command in commands if command}


CALLS = {
    "front_end": (
        functions.ADMIT,
        functions.CANCEL,
        functions.ASK,
        functions.BYTES,
        functions.LATER,
        functions.JOB,
        functions.LINE,
        functions.OVERDUE,
        functions.WEBHOOK_EVENT,
        functions.WEBHOOK_ROOM,
        functions.WEBHOOK_CLAIM,
        functions.WEBHOOK_STEP,
        functions.BULK_OPEN,
        functions.BULK_CLAIM,
        functions.BULK_SAVE,
        functions.BULK_CANCEL,
        functions.BULK_FORGET,
        functions.LETTERS,
        functions.REQUEUE_WITHIN,
    ),
    "consumer": (
        functions.COMMIT,
        functions.ANSWERED,
        functions.HEARTBEAT,
        functions.LEAVE,
        functions.RENEW,
        functions.RECLAIM,
        functions.CLAIMED,
        functions.BEGIN,
        functions.DEAD,
        functions.REAP,
        functions.LANES,
        functions.REPAIR,
        functions.BYTES,
        functions.VERSION,
        functions.EMIT,
        functions.HAND_OVER,
    ),
    "operator": (
        functions.REQUEUE,
        functions.LINE,
        functions.LANES,
        functions.REPAIR,
        functions.BYTES,
        functions.WEBHOOK_RETRY,
    ),
}
"""The functions that each role calls."""


@pytest.mark.parametrize("role", CALLS)
def test_a_role_may_do_what_is_inside_the_functions_that_it_calls(role: str) -> None:
    """On some key: that it is the right one, the scenarios below show."""
    inside = functions_by_source()
    needed = {command for name in CALLS[role] for command in inside[name]}
    assert needed <= set(re.findall(r"\+([\w|-]+)", acl.rule(role, "resetpass")))


def test_each_function_is_called_by_a_role() -> None:
    assert {name for names in CALLS.values() for name in names} == functions_by_source().keys()


def begin(server: Server) -> None:
    entry = server.admit("begun")
    server.claim("w3")
    assert server.call("consumer", functions.RENEW, "w3", entry) == []
    assert server.call("consumer", functions.CLAIMED, "w3", "0-0", 10)[0] == entry
    assert server.call("consumer", functions.BEGIN, "w3", entry, 2) == 1
    assert entry in [row[0] for row in server.call("consumer", functions.RECLAIM, "w4", 0, 10)]
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, entry, "begun", "fe", 9000, "reply") == [1]


def stream(server: Server) -> None:
    entry = server.admit("streamed")
    server.claim("w9")
    frame = (entry, "streamed", "fe", 9000, 0, b"frame")
    assert server.call("consumer", functions.EMIT, "w9", 9, 9000, *frame) == [1]
    record = keys.record(MODEL, "default", "streamed")
    assert server.does("consumer", "XRANGE", record, "-", "+")[0][0] == b"1-0"
    assert server.does("producer", "XREAD", "STREAMS", record, "0")
    assert server.does("front_end", "XRANGE", record, "-", "+")
    assert server.call("consumer", functions.HAND_OVER, "w9", 9000, entry) == 1
    assert server.call("front_end", functions.CANCEL, "0", "streamed", entry) == [b"claimed"]
    assert server.does("administrator", "EXISTS", record) == 0


def bury_and_requeue(server: Server) -> None:
    entry = server.admit("buried")
    server.claim("w5")
    dead = (9, 9000, 99, 10, 1000, entry, "buried", "fe", 9000, "reply", "crashed", 2)
    assert server.call("consumer", functions.DEAD, *dead) == [1]
    place = keys.dead_letters(MODEL, "default")
    [(letter, _)] = server.does("operator", "XRANGE", place, "-", "+")
    [again] = server.call("operator", functions.REQUEUE, letter, "buried")
    server.claim("w5")
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, again, "buried", "fe", 9000, "reply") == [1]


def requeue_on_the_console(server: Server) -> None:
    """As a front end, and what is left of it with narrower rights."""
    place, field = keys.dead_letters(MODEL, "default"), "default:paused"
    looks = [("XLEN", place), ("FCALL", functions.LETTERS, 1, WORK, "newest", "+", 9)]
    acts: list[tuple[Any, ...]] = [
        ("XDEL", place, "1-1"),
        ("HSET", keys.lanes(MODEL), field, 1),
        ("HDEL", keys.lanes(MODEL), field),
    ]
    for number in range(2):
        entry = server.admit(f"buried-{number}")
        server.claim("w12")
        dead = (9, 9000, 99, 10, 1000, entry, f"buried-{number}", "fe", 9000, "reply", "crashed", 2)
        assert server.call("consumer", functions.DEAD, *dead) == [1]
    letter, other = (row[0] for row in server.does("front_end", *looks[1])[1:])
    put_back, depth = ("FCALL", functions.REQUEUE_WITHIN, 1, WORK, 100), server.does("administrator", "XLEN", WORK)
    for console in ("off", "read"):
        head, *selectors = acl.rule("front_end", f">{PASSWORD}", console=console).split(" (")
        arguments = [*head.replace("user front_end", f"user {console}").split()[1:], *(f"({one}" for one in selectors)]
        server.does("administrator", "ACL", "SETUSER", *arguments)
        for command in [*acts, *(looks[1:] if console == "off" else ())]:
            with pytest.raises(ServerError, match=REFUSED):
                server.does(console, *command)
        if console == "read":
            assert server.does("read", *looks[0]) == 2
            assert len(server.does("read", *looks[1])) == 3
            with pytest.raises(ServerError) as refused:
                server.does("read", *put_back, letter)
            assert is_not_allowed(str(refused.value))
            assert server.does("read", "XLEN", place) == 2
            assert server.does("administrator", "XLEN", WORK) == depth  # and it is not in its lane besides
    [_, again] = server.does("front_end", *put_back, letter)
    assert server.does("front_end", *put_back, "1-1")[1] == b"gone"
    server.claim("w12")
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, again, "buried-1", "fe", 9000, "reply") == [1]
    for command in acts:
        server.does("front_end", *command)
    assert server.does("front_end", "XDEL", place, other) == 1


def come_and_go(server: Server) -> None:
    assert server.call("consumer", functions.VERSION) == library.VERSION
    assert server.call("consumer", functions.HEARTBEAT, "w6", 15000, 100, 2, "pid", "1", "name", '"echo"')[0] > 0
    assert server.call("consumer", functions.LEAVE, "w6") == 0
    assert server.call("consumer", functions.REAP, 3_600_000) == 0


def ask_twice(server: Server) -> None:
    ask = (functions.ADMIT, 100, "fe", "0-0", 1, 1, "delivered", "twice", "1:9000:9000:print", b"message")
    entry = server.call("front_end", *ask)[1]
    assert server.call("front_end", *ask)[1] == b"joined " + entry
    assert server.does("front_end", "XDEL", WORK, entry) == 1


def lanes_for(role: str) -> Callable[[Server], None]:
    def lanes_and_repair(server: Server) -> None:
        work = keys.work(MODEL, f"made-by-{role}")
        server.does("operator", "HSET", keys.lanes(MODEL), f"made-by-{role}", "10,1")
        server.does(role, "FCALL", functions.LANES, 1, WORK)
        server.does("front_end", "XADD", work, "NOMKSTREAM", "*", "m", b"message")
        ends = keys.terminations(MODEL, f"made-by-{role}")
        server.does("front_end", "XADD", ends, "*", "entry", "1-1")
        assert server.does(role, "FCALL", functions.REPAIR, 1, work, 10) == [1, 0]
        assert server.does("administrator", "EXISTS", ends) == 0
        server.does("operator", "HDEL", keys.lanes(MODEL), f"made-by-{role}")
        assert server.does("operator", "UNLINK", work, ends) == 1

    lanes_and_repair.__name__ = f"lanes_and_repair_as_{role}"
    return lanes_and_repair


def cancel(server: Server) -> None:
    ask = (functions.ADMIT, 100, "fe", "0-0", 0, 1, "unwanted", "1:9000:9000:", b"message")
    for stood in (b"queued", b"claimed"):
        server.call("front_end", *ask)
        if stood == b"claimed":
            server.claim("w7")
        assert server.call("front_end", functions.ASK, "unwanted") == [stood]
        assert server.call("front_end", functions.CANCEL, "1", "unwanted", "") == [stood]
        assert server.call("front_end", functions.ASK, "unwanted") == [b"unknown"]
    ends, hints = keys.terminations(MODEL, "default"), keys.reply_stream(MODEL, "default", "fe")
    assert server.does("front_end", "XREAD", "STREAMS", hints, ends, "0", "0")
    assert server.does("consumer", "XREAD", "STREAMS", ends, "0")
    assert server.does("consumer", "MEMORY", "USAGE", ends, "SAMPLES", 0) > 0
    assert server.does("producer", "XADD", ends, "MAXLEN", "~", 10000, "*", "entry", "1-1")


def later(server: Server) -> None:
    """A request that is answered later goes each way that ends it, and its dead letter back."""
    ends, place = keys.job_ends(MODEL, "default"), keys.dead_letters(MODEL, "default")

    def submit(request_id: str, ttl_ms: int = 9000) -> Any:
        item = (request_id, "1", ttl_ms, 9000, "print", b"request", "", b"message")
        return server.call("front_end", functions.LATER, 100, *item)[1].split()[0]

    def stands(request_id: str) -> bytes:
        [found] = server.call("front_end", functions.JOB, request_id)
        state: bytes = found[found.index(b"state") + 1]
        return state

    entry = submit("later-done")
    server.claim("w10")
    end = (entry, "later-done", keys.LATER, 9000)
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, *end, b"\x82\xa1v\x01\xa2ok\xc3" + bytes(20_000)) == [
        1
    ]
    assert stands("later-done") == b"done"
    for role in ("front_end", "operator"):
        assert server.call(role, functions.LINE)[3] > 20_000
    submit("later-cancelled")
    assert server.call("front_end", functions.CANCEL, "1", "later-cancelled", "") == [b"queued"]
    assert stands("later-cancelled") == b"cancelled"
    submit("later-expired", 0)
    assert server.call("front_end", functions.OVERDUE, 10)[0] == 1
    assert stands("later-expired") == b"expired"
    entry = submit("later-dead")
    server.claim("w10")
    dead = (entry, "later-dead", keys.LATER, 9000, b"no reply at all", "crashed", 2)
    assert server.call("consumer", functions.DEAD, 9, 9000, 99, 10, 1000, *dead) == [1]
    assert stands("later-dead") == b"failed"
    [(letter, _)] = server.does("operator", "XRANGE", place, "-", "+")
    [again] = server.call("operator", functions.REQUEUE, letter, "later-dead")
    assert stands("later-dead") == b"open"
    server.claim("w10")
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, again, "later-dead", keys.LATER, 9000, b"reply") == [
        1
    ]
    assert len(server.does("front_end", "XREAD", "STREAMS", ends, "0")[0][1]) == 5


def answered(server: Server) -> None:
    first = server.admit("sent-twice")
    second = server.admit("sent-twice")
    server.claim("w8")
    ask = (functions.ANSWERED, 9, 9000, second, "sent-twice", "fe")
    assert server.call("consumer", *ask) == [0]
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, first, "sent-twice", "fe", 9000, "reply") == [1]
    assert server.call("consumer", *ask) == [1]


def bytes_of_lanes(server: Server) -> None:
    """What is counted is counted for each role, and what somebody deleted is found by each that may."""
    for role in ("front_end", "consumer", "operator"):
        before = server.call("operator", functions.BYTES)[1]  # small replies of other scenarios, drawn by lot
        entry = server.admit(f"counted-{role}")
        server.claim("w9")
        reply = (entry, f"counted-{role}", "", 9000, bytes(100_000))
        assert server.call("consumer", functions.COMMIT, 9, 9000, 99, *reply) == [1]
        assert server.call(role, functions.BYTES)[1] > 100_000
        server.does("administrator", "UNLINK", keys.reply(MODEL, "default", f"counted-{role}"))
        if role == "front_end":
            server.does("administrator", "HSET", keys.lanes(MODEL), "default:bytes", 1 << 20)
            for _ in range(20):  # of a lane with plenty of room the bytes are counted now and then only
                server.call(role, functions.ADMIT, 100, "", "", 0, 1, "next", "0", bytes(1_000_000))
            server.does("administrator", "XTRIM", WORK, "MAXLEN", 0)
            server.does("administrator", "HDEL", keys.lanes(MODEL), "default:bytes")
        else:
            server.call(role, functions.LANES)
        assert server.call("operator", functions.BYTES)[1] <= before, role


def webhooks(server: Server) -> None:
    hook = '{"url":"https://hooks.example/","events":["request.failed"]}'
    assert server.call("front_end", functions.WEBHOOK_ROOM) == 1
    assert server.call("front_end", functions.WEBHOOK_EVENT, "r1", "request.failed", hook, "") == [1]
    *_, token, host = server.call("front_end", functions.WEBHOOK_CLAIM, 60_000, 9)
    _, token, subject, event = server.call("front_end", functions.WEBHOOK_STEP, host, token, 60_000, 9000, 1, "", 0)
    webhook = json.loads(event)["id"]
    again = (host, token, 60_000, 9000, 1, "", 1, b"request:other", subject, webhook, "again", 0, "503")
    _, token, *_ = server.call("front_end", functions.WEBHOOK_STEP, *again)
    dead = (host, token, 60_000, 9000, 1, 0, 0, subject, webhook, "dead", 0, "410")
    assert server.call("front_end", functions.WEBHOOK_STEP, *dead) == [1, 0]
    place = keys.dead_webhooks(MODEL, "default")
    [(letter, _)] = server.does("operator", "XRANGE", place, "-", "+")
    assert server.call("operator", functions.WEBHOOK_RETRY, letter, letter) == [1, b"gone"]
    assert server.does("operator", "ZCARD", keys.webhooks_pending(MODEL, "default")) == 1


def webhooks_of_later_requests(server: Server) -> None:
    """Each role announces the ends that it makes."""
    events = '["request.queued","request.running","request.succeeded","request.cancelled"]'
    hook = f'{{"url":"https://hooks.example/","events":{events}}}'
    before = server.does("operator", "ZCARD", keys.webhooks_pending(MODEL, "default"))
    entries = {}
    for name in ("hooked-done", "hooked-cancelled"):
        item = (name, "1", 9000, 9000, "print", b"request", hook, b"message")
        entries[name] = server.call("front_end", functions.LATER, 100, *item)[1].split()[0]
    assert server.call("front_end", functions.CANCEL, "1", "hooked-cancelled", "") == [b"queued"]
    server.claim("w11")
    assert server.call("front_end", functions.WEBHOOK_CLAIM, 1, 0)[1] == before + 2
    end = (entries["hooked-done"], "hooked-done", keys.LATER, 9000, b"\x82\xa1v\x01\xa2ok\xc3")
    assert server.call("consumer", functions.COMMIT, 9, 9000, 99, *end) == [1]
    found = {}
    for member in server.does("operator", "ZRANGE", keys.webhooks_pending(MODEL, "default"), 0, -1):
        host, _, subject = member.decode().partition(":")
        place = keys.webhook_events(MODEL, "default", host, subject)
        found[subject] = [json.loads(text)["type"] for text in server.does("administrator", "LRANGE", place, 0, -1)]
    assert found["request:hooked-done"] == ["request.queued", "request.running", "request.succeeded"]
    assert found["request:hooked-cancelled"] == ["request.queued", "request.cancelled"]


def bulk(server: Server) -> None:
    """A batch from its upload to its end, of which a webhook tells, and what a front end reads of it."""
    hook = '{"url":"https://hooks.example/","events":["batch.completed"]}'
    record = ("hook", hook, "state", "receiving")
    assert server.call("front_end", functions.BULK_OPEN, "b1", 9, 60_000, "1", *record) == b"opened"
    assert server.call("front_end", functions.BULK_SAVE, "b1", "1", 0, "", "state", "queued") == b"queued"
    assert server.call("front_end", functions.BULK_CLAIM, 0) == [b"default", b"b1", b"2"]
    assert server.call("front_end", functions.BULK_SAVE, "b1", "1", 0, "", "state", "running") == b"lost"
    assert server.call("front_end", functions.BULK_SAVE, "b1", "2", 0, "0-2 9 0", "state", "running") == b"running"
    assert server.call("front_end", functions.BULK_CANCEL, "b1") == b"running"
    assert server.call("front_end", functions.BULK_SAVE, "b1", "2", 0, "", "state", "running") == b"cancelling"
    waiting = server.call("front_end", functions.WEBHOOK_CLAIM, 1, 0)[1]
    assert server.call("front_end", functions.BULK_SAVE, "b1", "2", 0, "", "state", "completed") == b"completed"
    assert server.call("front_end", functions.WEBHOOK_CLAIM, 1, 0)[1] == waiting + 1
    assert server.does("front_end", "LRANGE", keys.bulk_parts(MODEL, "default", "b1"), 0, -1) == [b"0-2 9 0"]
    assert server.does("front_end", "ZREVRANGE", keys.bulk_list(MODEL, "default"), 0, 9) == [b"b1"]
    assert b"completed" in server.does("front_end", "HGETALL", keys.bulk_record(MODEL, "default", "b1")).values()
    assert server.call("front_end", functions.BULK_FORGET, "b1", "1") == 0
    assert server.call("front_end", functions.BULK_FORGET, "b1", "2") == 1
    assert server.does("administrator", "EXISTS", keys.bulk_record(MODEL, "default", "b1"), keys.bulk(MODEL)) == 0
    assert server.does("front_end", "ZADD", keys.hurried(MODEL), 5, "nightly") == 1
    assert server.does("front_end", "PEXPIRE", keys.hurried(MODEL), 60_000) == 1
    assert server.does("consumer", "ZRANGE", keys.hurried(MODEL), 0, -1, "WITHSCORES")[0] == b"nightly"
    with pytest.raises(ServerError, match=r"(?i)no permissions"):
        server.does("producer", "ZADD", keys.hurried(MODEL), 5, "default")


SCENARIOS = {
    lanes_for("consumer"): (functions.LANES, functions.REPAIR),
    lanes_for("operator"): (functions.LANES, functions.REPAIR),
    begin: (functions.BEGIN, functions.RENEW, functions.CLAIMED, functions.RECLAIM, functions.COMMIT),
    stream: (functions.EMIT, functions.HAND_OVER, functions.CANCEL),
    bury_and_requeue: (functions.DEAD, functions.REQUEUE),
    requeue_on_the_console: (functions.LETTERS, functions.REQUEUE_WITHIN),
    come_and_go: (functions.VERSION, functions.HEARTBEAT, functions.LEAVE, functions.REAP),
    ask_twice: (functions.ADMIT,),
    cancel: (functions.CANCEL, functions.ASK),
    answered: (functions.ANSWERED,),
    later: (functions.LATER, functions.JOB, functions.LINE, functions.OVERDUE),
    bytes_of_lanes: (functions.BYTES,),
    webhooks: (
        functions.WEBHOOK_EVENT,
        functions.WEBHOOK_ROOM,
        functions.WEBHOOK_CLAIM,
        functions.WEBHOOK_STEP,
        functions.WEBHOOK_RETRY,
    ),
    webhooks_of_later_requests: (functions.LATER, functions.CANCEL, functions.COMMIT),
    bulk: (
        functions.BULK_OPEN,
        functions.BULK_CLAIM,
        functions.BULK_SAVE,
        functions.BULK_CANCEL,
        functions.BULK_FORGET,
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_each_function_does_its_work_for_its_role(server: Server, scenario: Callable[[Server], None]) -> None:
    scenario(server)


def test_each_function_is_tried() -> None:
    assert {name for names in SCENARIOS.values() for name in names} == functions_by_source().keys()


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
    assert server.does("producer", "LINDEX", own, 0) == b"reply"
    assert server.does("producer", "XREAD", "STREAMS", keys.reply_stream(MODEL, "default", "direct"), "0")
    assert server.does("producer", "BLPOP", own, 1)
    assert server.does("consumer", "FCALL", functions.LEAVE, 1, WORK, "w2") == 0
    for command in (("ZREVRANGE", keys.MODELS, 0, 9), ("HGETALL", keys.card(MODEL)), ("XLEN", WORK), ("TIME",)):
        assert server.does("front_end", *command) is not None
    assert server.does("health", "PING")
    assert server.does("cats-only", "FCALL", functions.HEARTBEAT, 1, keys.work("cats", "default"), "w1", 9000, 100, 0)


@pytest.mark.parametrize("user", ["front_end", "consumer", "operator", "producer"])
def test_with_another_database_a_user_may_choose_that_one_and_no_other(server: Server, user: str) -> None:
    name = f"{user}-in-3"
    if user == "producer":
        line = acl.producer_rule(name, MODEL, "default", f">{PASSWORD}", database=3)
    else:
        line = acl.rule(user, f">{PASSWORD}", database=3).replace(f"user {user}", f"user {name}")
    with connect(f"redis://administrator:{PASSWORD}@{server.place}/0") as client:
        head, *selectors = line.split(" (")
        client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
    with connect(f"redis://{name}:{PASSWORD}@{server.place}/3") as client:
        assert client.ping()
    for who, database in ((name, 4), (user, 3)):
        with (
            connect(f"redis://{who}:{PASSWORD}@{server.place}/{database}") as client,
            pytest.raises(RedisError, match=f"^Database {database} cannot be used .*take database 0"),
        ):
            client.ping()


def test_who_serves_is_spared_when_clients_are_closed_and_who_asks_is_not(server: Server) -> None:
    for user, spared in (("front_end", True), ("consumer", True), ("operator", False), ("producer", False)):
        with connect(f"redis://{user}:{PASSWORD}@{server.place}/0", is_spared=True) as client:
            number = client.client_id()
            listed = server.does("administrator", "CLIENT", "LIST", "ID", number)
        flags = re.search(r"flags=(\w+)", str(listed))
        assert flags is not None
        assert ("e" in flags[1]) == spared


def test_a_wrong_password_and_a_hostile_name_are_refused(server: Server) -> None:
    with (
        connect(f"redis://producer:wrong@{server.place}/0") as client,
        pytest.raises(RedisError, match=r"(?i)password"),
    ):
        client.ping()
    for name in (*acl.ROLES, "default"):
        with pytest.raises(ValueError, match="a role's name"):
            acl.producer_rule(name, "m", "default", "nopass")
    with pytest.raises(ValueError, match="must be 1 to 64 letters"):
        acl.rule("consumer", "nopass", "m}:*")
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
        with connect(f"redis://shop:anything@127.0.0.1:{config.port}/0") as client, pytest.raises(RedisError):
            client.ping()
        with connect(f"redis://127.0.0.1:{config.port}/0") as client:
            assert set(client.acl_users()) == {"default", "shop", *acl.ROLES}
    finally:
        server.kill()
        server.communicate()
    refused = subprocess.run([*command[:5], "shop", "a b", "gold"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2

"""Clients that never read what they asked for, or never finish asking: the server's memory stays in its bounds, and
whoever else uses it is answered meanwhile. On the embedded server, and on Redis 7 as the compose stack runs it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumer.queue.interface import Completion
from consumer.queue.redis_stream import RedisStream
from headrace.redis import acl, users
from shared import keys
from shared.redis import functions, library
from shared.redis.client import SyncLink, connect
from shared.redis.embedded import ServerConfig, free_port
from shared.settings import Settings
from shared.wire.messages import Request, encode_request
from tests.children import ROOT
from tests.contract.lanes import card
from tests.embedded import EmbeddedServer
from tests.helpers import Crew, eventually, first

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

MODEL = "echo"
MAXMEMORY_MB = 512
MIB = 1 << 20
HOSTILE_CONNECTIONS = 8
PACE_S = 0.25
WORK, REPLY = keys.work(MODEL, "default"), keys.reply(MODEL, "gold", "mine")


class Place:
    """A server with a user for each role, and a producer with the lane ``gold``."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self._folder = port, folder

    def url(self, user: str) -> str:
        """Its address for a user."""
        return f"redis://{user}@127.0.0.1:{self.port}/0?password_file={self._folder / user / 'password'}"

    def raw(self, user: str) -> socket.socket:
        """A connection that has logged in and reads no more."""
        password = (self._folder / user / "password").read_text().strip()
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(packed("AUTH", user, password))
        assert connection.recv(64) == b"+OK\r\n"
        return connection


def packed(*command: str | bytes) -> bytes:
    """A command as it is sent."""
    parts = [part.encode() if isinstance(part, str) else part for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@contextmanager
def compose_redis(folder: Path) -> Iterator[int]:
    """Redis 7 with the files of the compose stack; its port."""
    testcontainers = pytest.importorskip("testcontainers.core.container")
    container = testcontainers.DockerContainer("redis:7-bookworm").with_exposed_ports(6379)
    container.with_volume_mapping(str(ROOT / "deploy" / "redis"), "/etc/headrace", "ro")
    container.with_volume_mapping(str(folder / "server"), "/access/server", "ro")
    container.with_kwargs(entrypoint=["sh", "/etc/headrace/start.sh"])
    with container.with_env("MAXMEMORY_MB", str(MAXMEMORY_MB)).with_env("APPENDONLY", "no") as running:
        port = int(running.get_exposed_port(6379))
        eventually(lambda: answers(port), 30.0)
        yield port


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64) != b""
    return False


@pytest.fixture(params=["valkey", pytest.param("redis7", marks=pytest.mark.soak)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "access"
    users.write(folder, {}, [("shop", MODEL, "gold")])
    if request.param == "valkey":
        with EmbeddedServer(ServerConfig(tmp_path / "redis", free_port(), "no", MAXMEMORY_MB, 1)) as server:
            with connect(server.url) as client:
                for line in (folder / "server" / "users.acl").read_text().splitlines()[1:]:
                    head, *selectors = line.split(" (")
                    client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
            yield Place(server.config.port, folder)
    else:
        request.getfixturevalue("redis7_url")  # skips where no engine runs
        with compose_redis(folder) as port:
            yield Place(port, folder)


class Attack(Crew):
    """Connections of one user that send something again and again and read nothing; closed ones come back."""

    def __init__(self, place: Place, user: str, payload: bytes) -> None:
        super().__init__([partial(self._go_on, place, user, payload)] * HOSTILE_CONNECTIONS)

    def _go_on(self, place: Place, user: str, payload: bytes) -> None:
        while not self.over.is_set():
            with suppress(OSError), place.raw(user) as connection:
                connection.settimeout(0.2)
                left = memoryview(payload)
                while not self.over.is_set():
                    with suppress(TimeoutError):
                        left = left[connection.send(left) :] or memoryview(payload)
            self.over.wait(PACE_S)  # it is about memory: who only keeps the server's one thread busy is another matter


HALF = "half a command"
ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a text to be sent back": ("health", lambda: packed("PING", bytes(4 * MIB)) * 4),
    HALF: ("health", lambda: b"*2\r\n$4\r\nPING\r\n$%d\r\n%b" % (512 * MIB, bytes(8 * MIB))),
    "its own reply, again and again": ("shop", lambda: packed("LINDEX", REPLY, "0") * 100),
}


@pytest.mark.parametrize("attack", first(2, reversed(ATTACKS)))
def test_whoever_does_not_read_is_closed_and_nobody_else_notices(place: Place, attack: str) -> None:
    user, payload = ATTACKS[attack]
    resident: list[int] = []
    with connect(place.url("administrator"), is_spared=True) as client:
        library.load(client)
        client.rpush(REPLY, bytes(MIB // 8))
        lane = OtherLane(place)
        lane.request("first")
        with Attack(place, user, payload()):
            done = 0

            def enough() -> bool:
                nonlocal done
                done += 1
                lane.request(f"r{done}")
                said: Any = client.info()
                resident.append(said["used_memory_rss"])
                return done >= 10 and said["evicted_clients"] >= HOSTILE_CONNECTIONS

            eventually(enough, 90.0)
        lane.close()
        assert max(resident) < 1.5 * MAXMEMORY_MB * MIB
        if attack != HALF:  # room for what was announced is counted, and never filled
            peak: Any = client.info("memory")
            assert peak["used_memory_peak"] < MAXMEMORY_MB * MIB


class OtherLane:
    """A front end and a consumer of the lane ``default``, each on connections that it keeps."""

    def __init__(self, place: Place) -> None:
        self._client = connect(place.url("front_end"), 10.0, is_spared=True)
        self._link = SyncLink(self._client)
        settings = Settings.from_env({"HEADRACE_REDIS_URL": place.url("consumer"), "HEADRACE_LEASE_MS": "30000"})
        self._stream = RedisStream(settings, MODEL, "w1")
        self._stream.heartbeat(card(MODEL), {})

    def request(self, request_id: str) -> None:
        """Send a request, run it, and read the reply; each step must succeed at once."""
        message = encode_request(Request(request_id, 60_000, "application/octet-stream", bytes(100_000)))
        request = (request_id, functions.NOT_ASKED_BEFORE, message)
        admit = functions.admit(WORK, 100, "fe", "0-0", (), [request])
        entry = self._link.call(*admit)[1]
        assert entry.partition(b"-")[0].isdigit(), entry
        [claimed] = self._stream.read(10)
        assert claimed.entry_id == entry
        assert self._stream.commit([Completion(entry, request_id, "fe", 60_000, bytes(50_000))]) == [1]
        assert len(self._link.call("LINDEX", keys.reply(MODEL, "default", request_id), 0)) == 50_000

    def close(self) -> None:
        """End."""
        self._stream.close()
        self._link.close()
        self._client.close()


@pytest.mark.soak
def test_the_largest_read_of_a_consumer_at_the_shipped_sizes_is_not_cut(tmp_path: Path) -> None:
    """32 requests of 16 MiB in one answer, on the embedded server at its shipped memory, are within all limits."""
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 1280)) as server, connect(server.url) as client:
        library.load(client)
        settings = Settings.from_env({"HEADRACE_REDIS_URL": server.url})
        stream = RedisStream(settings, MODEL, "w1")
        stream.heartbeat(card(MODEL), {})
        message = encode_request(Request("r", 60_000, "application/octet-stream", bytes(settings.max_body_bytes)))
        for _ in range(32):
            client.xadd(WORK, {keys.MESSAGE_FIELD: message})
        found = stream.read(32)
        assert [len(one.message or b"") for one in found] == [len(message)] * 32
        stats: Any = client.info("stats")
        assert (stats["evicted_clients"], stats["client_output_buffer_limit_disconnections"]) == (0, 0)
        stream.close()


def test_a_read_that_is_too_large_for_the_server_is_cut_and_comes_in_pieces(tmp_path: Path) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 256)) as server, connect(server.url) as client:
        library.load(client)
        client.config_set("client-output-buffer-limit", "normal 10mb 0 0")
        stream = RedisStream(Settings.from_env({"HEADRACE_REDIS_URL": server.url}), MODEL, "w1")
        stream.heartbeat(card(MODEL), {})
        message = encode_request(Request("r", 60_000, "application/octet-stream", bytes(MIB)))
        entries = [client.xadd(WORK, {keys.MESSAGE_FIELD: message}) for _ in range(32)]
        found: list[bytes] = []
        losses = 0
        while len(found) < 32:
            try:
                found += [one.entry_id for one in stream.read(32)]
            except Exception:
                losses += 1
                assert losses < 10
        assert found == entries
        assert losses >= 2  # the first, and those until the pieces are small enough
        stream.close()


def test_no_role_has_a_command_that_sends_back_what_it_was_sent() -> None:
    for line in [acl.rule(role, "nopass") for role in acl.ROLES if role != acl.ADMINISTRATOR]:
        assert not {"+echo", "+client|getname", "+eval", "+subscribe", "+monitor", "+select"} & set(line.split())

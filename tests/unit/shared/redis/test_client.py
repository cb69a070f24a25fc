"""The links to Redis against a server that misbehaves in every way a server can."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from shared.redis.client import (
    Link,
    OutOfMemory,
    RedisError,
    ServerError,
    SyncLink,
    _password_file,
    connect,
    connect_async,
)
from shared.redis.idle import DOUBT_S, IdleSchedule
from tests.helpers import eventually, eventually_async
from tests.unit.shared.scripted import HANG_UP, Answer, ScriptedServer


def run(server: ScriptedServer, scenario: Callable[[Link], Awaitable[None]], timeout_s: float = 5.0) -> None:
    """Run a scenario with a link to the server."""

    async def main() -> None:
        client = connect_async(server.url, timeout_s)
        link = Link(client)
        try:
            await scenario(link)
        finally:
            await link.close()
            await client.aclose()

    asyncio.run(main())


def half(connection: socket.socket) -> None:
    """Die in the middle of an answer."""
    connection.sendall(b"*2\r\n$5\r\nhe")
    connection.shutdown(socket.SHUT_RDWR)


def nothing(connection: socket.socket) -> None:
    """Stay silent."""


@pytest.mark.parametrize(
    ("url", "rest", "user"),
    [
        ("redis://host:1/0", "redis://host:1/0", None),
        ("redis://me@host:1/0?password_file=/a%20b", "redis://host:1/0", "me"),
        ("rediss://a%40b@host?ssl_ca_certs=/ca.pem&password_file=/p", "rediss://host?ssl_ca_certs=%2Fca.pem", "a@b"),
        ("redis+sentinel://me@one:1,two:2/s/0?password_file=/p", "redis+sentinel://one:1,two:2/s/0", "me"),
        ("unix:///run/redis.sock?password_file=/p", "unix:///run/redis.sock", "default"),
    ],
)
def test_a_password_file_is_taken_out_of_the_address(url: str, rest: str, user: str | None) -> None:
    found, options = _password_file(url)
    assert found == rest
    provider = options.get("credential_provider")
    assert (None if provider is None else provider._user) == user


def test_answers_come_back_in_order() -> None:
    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"one"
        answers = await link.call_many([("GET", "b"), ("GET", "c"), ("GET", "d")])
        assert answers[0] == [1, [None, b""]]
        assert isinstance(answers[1], ServerError)
        assert answers[2] == 7

    with ScriptedServer(b"$3\r\none\r\n", b"*2\r\n:1\r\n*2\r\n$-1\r\n$0\r\n\r\n", b"-ERR no\r\n", b":7\r\n") as server:
        run(server, scenario)
        assert server.connections == 1
        assert server.commands[0] == [b"GET", b"a"]


def test_an_answer_may_be_huge_and_come_in_pieces() -> None:
    huge = bytes(range(256)) * 40_000

    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == huge

    with ScriptedServer(b"$%d\r\n%b\r\n" % (len(huge), huge)) as server:
        run(server, scenario)


@pytest.mark.parametrize(
    ("line", "kind", "keeps"),
    [
        (b"-ERR something\r\n", ServerError, True),
        (b"-OOM command not allowed\r\n", OutOfMemory, True),
        (b"-READONLY You can't write against a read only replica.\r\n", ServerError, False),
        (
            b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
            ServerError,
            False,
        ),
        (b"-LOADING Redis is loading\r\n", ServerError, True),
        (b"-NOGROUP No such key\r\n", ServerError, True),
    ],
)
def test_error_answers(line: bytes, kind: type[Exception], keeps: bool) -> None:
    async def scenario(link: Link) -> None:
        with pytest.raises(kind):
            await link.call("SET", "a", "b")
        assert await link.call("GET", "a") == b"b"

    with ScriptedServer(line, b"$1\r\nb\r\n") as server:
        run(server, scenario)
        assert server.connections == (1 if keeps else 2)


@pytest.mark.parametrize(
    "bad",
    [half, HANG_UP, b"$5\r\nhe", b"!not a protocol\r\n", b"$1\r\na\r\n$1\r\nb\r\n"],
    ids=["half", "gone", "silent in the middle", "garbage", "two answers"],
)
def test_after_a_failure_the_next_call_has_a_connection_of_its_own(bad: Answer) -> None:
    async def scenario(link: Link) -> None:
        with pytest.raises((RedisError, OSError)):
            await link.call("GET", "a")
        assert await link.call("GET", "b") == b"b"

    with ScriptedServer(bad, b"$1\r\nb\r\n") as server:
        run(server, scenario, timeout_s=0.1)
        assert server.connections == 2
        assert [command[1] for command in server.commands] == [b"a", b"b"]  # nothing is sent twice


def test_a_server_that_stays_silent_is_given_up() -> None:
    async def scenario(link: Link) -> None:
        with pytest.raises(RedisError, match="Timeout"):
            await link.call_many([("GET", "a"), ("GET", "b")])
        assert await link.call("GET", "c") == b"c"

    with ScriptedServer(b"$1\r\na\r\n", nothing, b"$1\r\nc\r\n") as server:
        run(server, scenario, timeout_s=0.1)


def test_a_connection_closed_while_idle_costs_no_call() -> None:
    def say_and_leave(connection: socket.socket) -> None:
        connection.sendall(b"$1\r\na\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"a"
        await eventually_async(lambda: link._answers.error is not None)
        assert await link.call("GET", "b") == b"b"

    with ScriptedServer(say_and_leave, b"$1\r\nb\r\n") as server:
        run(server, scenario)


def test_an_answer_to_nothing_is_never_the_answer_to_the_next_call() -> None:
    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"a"
        await eventually_async(lambda: link._answers.error is not None)
        assert await link.call("GET", "b") == b"b"

    def twice(connection: socket.socket) -> None:
        connection.sendall(b"$1\r\na\r\n")
        connection.sendall(b"$5\r\nagain\r\n")

    with ScriptedServer(twice, b"$1\r\nb\r\n") as server:
        try:
            run(server, scenario)
        except RedisError:  # both answers came in one piece
            assert server.connections == 1


def test_a_cancelled_call_leaves_no_answer_behind() -> None:
    async def scenario(link: Link) -> None:
        call = asyncio.create_task(link.call("GET", "a"))
        await eventually_async(lambda: server.commands)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await link.call("GET", "b") == b"b"

    with ScriptedServer(nothing, b"$1\r\nb\r\n") as server:
        run(server, scenario)
        assert server.connections == 2


def test_a_refused_connection_is_an_error_and_nothing_more() -> None:
    async def scenario(link: Link) -> None:
        with pytest.raises((RedisError, OSError)):
            await link.call("GET", "a")

    with ScriptedServer() as server:
        pass
    run(server, scenario)


def test_the_synchronous_link_answers_in_order_and_keeps_its_connection_after_an_error_answer() -> None:
    with ScriptedServer(b"-ERR no\r\n", b"$1\r\nb\r\n", b":3\r\n") as server, connect(server.url) as client:
        link = SyncLink(client)
        link.send(("GET", "a"), ("GET", "b"))
        with pytest.raises(ServerError):
            link.receive()
        assert link.receive() == b"b"
        assert link.call("LLEN", "c") == 3
        assert server.connections == 1
        link.close()


@pytest.mark.parametrize(
    "bad",
    [half, HANG_UP, b"-READONLY no\r\n", b"$5\r\nhe"],
    ids=["half", "gone", "read-only", "silent in the middle"],
)
def test_the_synchronous_link_loses_every_answer_with_its_connection(bad: Answer) -> None:
    with ScriptedServer(bad, b"", b"$1\r\nc\r\n") as server, connect(server.url, 0.2) as client:
        link = SyncLink(client)
        link.send(("GET", "a"), ("GET", "b"))
        for _ in range(2):
            with pytest.raises(RedisError):
                link.receive()
        eventually(lambda: len(server.commands) == 2)  # else a late one would take the answer that follows
        assert link.call("GET", "c") == b"c"
        assert server.connections == 2
        link.close()


PONG = b"+PONG\r\n"


def run_pinging(server: ScriptedServer, every_s: float, scenario: Callable[[Link], Awaitable[None]]) -> None:
    async def main() -> None:
        client = connect_async(server.url, 5.0, every_s)
        link = Link(client)
        try:
            await scenario(link)
        finally:
            await link.close()
            await client.aclose()

    asyncio.run(main())


def test_an_idle_link_asks_whether_the_server_is_there_and_stays() -> None:
    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"a"
        await eventually_async(lambda: len(server.commands) == 3 and not link._answers.is_pinged)
        assert await link.call("GET", "b") == b"b"
        assert link.was_idle_s > 0

    with ScriptedServer(b"$1\r\na\r\n", PONG, b"-NOPERM no\r\n", b"$1\r\nb\r\n", PONG, PONG) as server:
        run_pinging(server, 0.1, scenario)
        assert [command[0] for command in server.commands[:4]] == [b"GET", b"PING", b"PING", b"GET"]
        assert server.connections == 1


def test_a_link_that_does_not_answer_a_ping_is_replaced_at_the_next_call() -> None:
    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"a"
        await eventually_async(lambda: len(server.commands) == 2)
        await eventually_async(lambda: asyncio.get_running_loop().time() - link._used_s > DOUBT_S)
        assert await link.call("GET", "b") == b"b"  # doubtful already, and soon given up
        assert link.was_idle_s == 0
        await eventually_async(lambda: link._answers.error is not None)
        assert await link.call("GET", "c") == b"c"

    with ScriptedServer(b"$1\r\na\r\n", nothing, b"$1\r\nb\r\n", nothing, b"$1\r\nc\r\n") as server:
        run_pinging(server, 0.2, scenario)
        assert server.connections == 3
        assert [command[0] for command in server.commands] == [b"GET", b"PING", b"GET", b"PING", b"GET"]


def test_a_call_behind_a_ping_gets_its_own_answer() -> None:
    def pong_late(connection: socket.socket) -> None:
        asked.set()
        assert called.wait(5)
        connection.sendall(PONG)

    asked, called = threading.Event(), threading.Event()

    async def scenario(link: Link) -> None:
        assert await link.call("GET", "a") == b"a"
        await eventually_async(asked.is_set)
        link._used_s = asyncio.get_running_loop().time()  # not doubtful yet, however busy the machine is
        call = asyncio.create_task(link.call("GET", "b"))
        await asyncio.sleep(0)
        called.set()
        assert await call == b"b"

    with ScriptedServer(b"$1\r\na\r\n", pong_late, b"$1\r\nb\r\n", PONG, PONG) as server:
        run_pinging(server, 0.2, scenario)
        assert server.connections == 1


def test_a_synchronous_link_is_asked_by_another_thread_and_only_while_it_is_idle() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        asked.set()
        assert go_on.wait(5)
        connection.sendall(b"$1\r\na\r\n")

    with ScriptedServer(slow, PONG, nothing, b"$1\r\nb\r\n") as server, connect(server.url, 5.0, 0.0) as client:
        link = SyncLink(client)
        link.send(("GET", "a"))
        assert asked.wait(5)
        assert link.keep_alive()  # in use: let be
        go_on.set()
        assert link.receive() == b"a"
        assert link.keep_alive()
        assert not link.keep_alive()  # no answer
        assert link.call("GET", "b") == b"b"
        assert [command[0] for command in server.commands] == [b"GET", b"PING", b"PING", b"GET"]
        assert server.connections == 2
        link.close()


def test_a_link_that_nobody_could_look_after_is_not_trusted() -> None:
    """The process itself stood still: what became of its connections meanwhile it cannot know."""
    with ScriptedServer(b"$1\r\na\r\n", b"$1\r\nb\r\n") as server, connect(server.url, 5.0, 60.0) as client:
        link = SyncLink(client)
        assert link.call("GET", "a") == b"a"
        link._used_s -= 121
        assert link.call("GET", "b") == b"b"
        assert server.connections == 2
        link.close()


def test_a_connection_that_lay_unused_in_the_pool_is_opened_anew() -> None:
    with ScriptedServer(PONG, PONG, PONG) as server, connect(server.url, 5.0, 60.0) as client:
        client.ping()
        client.ping()
        assert server.connections == 1
        client.connection_pool._available_connections[0].unused_since_s -= 61
        client.ping()
        assert server.connections == 2


def test_the_system_asks_too_and_ends_a_connection_after_three_probes() -> None:
    with ScriptedServer(PONG) as server, connect(server.url, 5.0, 2.0) as client:
        client.ping()
        held = client.connection_pool._available_connections[0]._sock
        assert held.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = [held.getsockopt(socket.IPPROTO_TCP, name) for name in IdleSchedule(2.0).socket_options()]
        assert found == [2, 2, 3]

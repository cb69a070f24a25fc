"""Servers of a kind that Headrace does not use, and servers and users that lack commands: each is told in one sentence,
and what can be done without a command is."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumer.queue.interface import StreamDown
from consumer.queue.redis_stream import RedisStream
from headrace.stack import preflight
from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import Link, RedisError, connect, connect_async
from shared.redis.embedded import HOST, ServerConfig, find_server, free_port, server_argv
from shared.redis.minimum_server import check_server
from shared.settings import Settings, SettingsError
from tests.children import ROOT, clean_environment
from tests.contract.lanes import card
from tests.e2e.producer_api.test_tls import certificate, tls_in_front
from tests.fault.redis import servers
from tests.fault.site import Site, body_of, port_of, wait_until
from tests.helpers import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

KEY = keys.work("echo", "default")


@contextmanager
def server(folder: Path, *options: str) -> Iterator[int]:
    """A server with more options; its port."""
    folder.mkdir(parents=True)
    port = free_port()
    argv = [*server_argv(find_server(), ServerConfig(folder, port, "no", 64)), *options]
    with servers.process(argv, port, folder / "log"):
        yield port


@contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[list[str]]:
    """Nodes in cluster mode: one or two with all slots, or, with 0, a single one without any; their addresses."""
    with ExitStack() as running:
        # Of its own choice a node takes port + 10000 for the bus, which an outgoing connection may have already.
        buses = [free_port() for _ in range(max(1, nodes))]
        ports = [
            running.enter_context(
                server(folder / f"node-{number}", "--cluster-enabled", "yes", "--cluster-port", str(bus))
            )
            for number, bus in enumerate(buses)
        ]
        urls = [f"redis://{HOST}:{port}/0" for port in ports]
        for number in range(nodes):
            with connect(urls[number]) as client:
                share = 16384 // nodes
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, (number + 1) * share - 1)
                for port, bus in zip(ports[:number], buses, strict=False):
                    client.execute_command("CLUSTER", "MEET", HOST, port, bus)
        for url in urls if nodes else ():
            with connect(url) as client:
                eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok", 30.0)
        yield urls


@pytest.mark.parametrize(
    "nodes", [pytest.param(0, id="no slots", marks=pytest.mark.soak), pytest.param(1, id="all slots")]
)
def test_cluster_mode_is_refused_by_every_process_and_command(tmp_path: Path, nodes: int) -> None:
    with cluster(tmp_path, nodes) as urls:
        for command in (
            ("headrace", "doctor"),
            ("headrace", "functions", "load"),
            ("headrace", "lane", "guard"),
            ("producer_api",),
            ("consumer", "--model", "echo"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=clean_environment(HEADRACE_REDIS_URL=urls[0], HEADRACE_METRICS_PORT="0", HEADRACE_PORT="0"),
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 2, done.stderr
            [sentence] = done.stderr.splitlines()
            assert "HEADRACE_REDIS_URL: the server runs in cluster mode, which Headrace does not" in sentence
        with pytest.raises(SettingsError, match="cluster mode"):
            preflight.check_redis(urls[0])


def test_what_only_a_cluster_answers_is_told_for_what_it_is(tmp_path: Path) -> None:
    async def asked(url: str, *command: Any) -> str:
        client = connect_async(url)
        link = Link(client)
        try:
            await link.call(*command)
        except RedisError as error:
            return told(error)
        finally:
            await link.close()
            await client.aclose()
        return ""

    with cluster(tmp_path / "two", 2) as urls, cluster(tmp_path / "none", 0) as alone:
        said = [asyncio.run(asked(url, "XLEN", KEY)) for url in urls]
        crossing = ("EXISTS", "{a}1", "{b}2")
        said += [asyncio.run(asked(urls[0], *crossing)), asyncio.run(asked(alone[0], "XLEN", KEY))]
        assert [bool(one) for one in said].count(False) == 1  # the one node that has the slot
        for url in (*urls, *alone):
            with connect(url) as client:
                try:
                    client.xlen(KEY)
                    client.exists("{a}1", "{b}2")
                except RedisError as error:
                    said.append(told(error))
        assert len(said) == 7
        assert all("the server runs in cluster mode" in one for one in said if one)


@pytest.mark.parametrize(
    "command",
    [
        ("headrace", "up"),
        ("headrace", "status"),
        ("headrace", "acl", "load"),
        ("headrace", "lane", "list", "echo"),
        ("headrace", "precision", "echo"),
        ("producer_api",),
        ("consumer", "--model", "echo"),
    ],
    ids=" ".join,
)
def test_every_process_refuses_an_address_that_cannot_be_used(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL="redis://:s3cret@127.0.0.1:1/0?foo=bar"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.splitlines()
    assert "HEADRACE_REDIS_URL is not a valid address: there is no option foo" in sentence
    assert "s3cret" not in sentence


def test_a_server_that_is_away_is_no_reason_to_refuse(tmp_path: Path) -> None:
    check_server(Settings(redis_url=f"redis://{HOST}:{free_port()}/0"))


def test_a_replica_is_told_for_what_it_is(tmp_path: Path) -> None:
    with servers.pair(tmp_path) as (_, replica):
        with pytest.raises(SettingsError, match="is a replica, which takes no requests; name the primary"):
            preflight.check_redis(replica.url)
        with connect(replica.url) as client:
            with pytest.raises(RedisError) as caught:
                client.xadd(KEY, {"m": b"x"})
            assert "the server is a replica" in told(caught.value)


def own_address() -> str:
    """An address of this machine that is not its loopback; the test is skipped where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("This machine has a loopback only.")
        return str(asking.getsockname()[0])


def test_protected_mode_is_told_with_what_to_do(tmp_path: Path) -> None:
    address = own_address()
    with server(tmp_path / "data", "--bind", "0.0.0.0", "--protected-mode", "yes") as port:
        with pytest.raises(
            SettingsError, match="protected mode and lets in its own machine only; give its users"
        ) as seen:
            preflight.check_redis(f"redis://{address}:{port}/0")
        assert len(str(seen.value).splitlines()) == 1


def test_tls_where_there_is_none_and_none_where_there_is(tmp_path: Path, valkey_url: str) -> None:
    with pytest.raises(SettingsError, match=r"does not let us in .*no TLS there: the address begins with redis:"):
        preflight.check_redis(valkey_url.replace("redis://", "rediss://"))
    cert, key = certificate(tmp_path, "redis")
    with tls_in_front(port_of(valkey_url), cert, key) as port:
        with pytest.raises(SettingsError, match=r"does not let us in .*speaks TLS there: the address") as caught:
            preflight.check_redis(f"redis://{HOST}:{port}/0")
        assert len(str(caught.value).splitlines()) == 1
        for missing in ("ssl_ca_certs=/no/such/file", "ssl_certfile=/no/such/file&ssl_keyfile=/no/such/file"):
            with pytest.raises(SettingsError, match="/no/such/file cannot be used: No such file"):
                preflight.check_redis(f"rediss://{HOST}:{port}/0?{missing}")


LACKING = ("config", "function", "acl", "client", "info", "script", "memory", "scan", "keys", "monitor", "select")


@contextmanager
def managed(folder: Path, kind: str) -> Iterator[str]:
    """A server whose users lack commands, as one that a provider runs: forbidden, or unknown to it; with functions."""
    options = [part for name in LACKING if name != "function" for part in ("--rename-command", name, "")]
    with server(folder / "data", *(options if kind == "unknown" else ())) as port:
        url = f"redis://{HOST}:{port}/0"
        with connect(url) as client:
            library.load(client)
            if kind == "forbidden":
                lacking = [f"-{name}" for name in LACKING]
                client.execute_command("ACL", "SETUSER", "managed", "on", ">only-here", "~*", "+@all", *lacking)
                url = url.replace("//", "//managed:only-here@")
        yield url


@pytest.mark.parametrize("kind", ["forbidden", "unknown"])
def test_a_stack_serves_on_a_server_that_lacks_what_it_can_do_without(
    tmp_path: Path, model_name: str, kind: str
) -> None:
    with managed(tmp_path, kind) as url, Site(url, model_name, tmp_path) as site:
        site.front_end()
        site.consumer()
        site.stack.wait(model_name)
        assert body_of(site.ask(b"served", "mine")) == b"served"
        wait_until(site.ready)
        preflight.check_redis(url)
        done = subprocess.run(
            [sys.executable, "-m", "headrace", "doctor"],
            cwd=ROOT,
            env=clean_environment(HEADRACE_REDIS_URL=url),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert " ".join(done.stdout.split()).count("unknown") >= 2, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("FUNCTION", "LOAD", "REPLACE", library.source()), "run `python -m headrace functions load`"),
        (("CONFIG", "GET", "maxmemory"), "only `doctor` needs it"),
        (("ACL", "LIST"), "`acl load` and `lane guard` need it"),
        (("CLIENT", "KILL", "TYPE", "normal"), "`lane guard` needs it"),
        (("INFO",), "it tells of memory that is nearly full"),
        (("MEMORY", "USAGE", KEY), "how much a lane holds"),
        (("SCAN", "0"), "to count replies"),
        (("SELECT", "1"), "take database 0"),
        (("FCALL", functions.ADMIT, "1", KEY), "give this user the rules"),
        (("SCRIPT", "FLUSH"), "give this user the rules"),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(part[:2]),
)
def test_each_missing_right_is_told_with_whom_it_is_for_and_what_to_do(
    valkey_url: str, command: tuple[str, ...], sentence: str
) -> None:
    user = "lacks-" + command[0].lower()
    with connect(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", user, "reset", "on", ">only-here", "~*", "-@all", "+ping")
    with (
        connect(f"redis://{user}:only-here@{urlsplit(valkey_url).netloc}/0") as client,
        pytest.raises(RedisError) as caught,
    ):
        client.execute_command(*command)
    said = told(caught.value)
    assert "no permissions to run the" in said
    assert sentence in said
    assert "\n" not in said
    unknown = f"unknown command '{command[0]}', with args beginning with: 'x' "
    assert told(RedisError(unknown)).startswith(f"the server has no command {command[0]}: ")


def test_who_may_not_load_functions_that_are_missing_says_whose_task_it_is(tmp_path: Path) -> None:
    with server(tmp_path / "data") as port:
        url = f"redis://{HOST}:{port}/0"
        with connect(url) as client:
            client.execute_command("ACL", "SETUSER", "weak", "on", ">only-here", "~*", "+@all", "-function")
        address = url.replace("//", "//weak:only-here@")
        stream = RedisStream(Settings(redis_url=address), "echo", "w1")
        with pytest.raises(StreamDown, match="run `python -m headrace functions load` as the administrator"):
            stream.heartbeat(card("echo"), {})
        with connect(url) as client:
            library.load(client)
        stream.heartbeat(card("echo"), {})
        stream.close()

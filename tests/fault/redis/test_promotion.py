"""Row 10: a replica takes over under load, by hand and through a Sentinel; and addresses that name Sentinels."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.redis.client import Link, RedisError, SyncLink, connect, connect_async
from shared.redis.embedded import HOST, free_port
from tests.children import ROOT, clean_environment
from tests.e2e.producer_api.test_tls import certificate
from tests.e2e.stack import Process
from tests.embedded import EmbeddedServer
from tests.fault.load import Load
from tests.fault.redis import servers
from tests.fault.redis.proxy import Proxy
from tests.fault.site import Site, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(90)]

SERVICE = "queue"
MORE = 40
"""Answers that must come after a change, before a test is content."""


def settle(load: Load) -> None:
    """Wait until the service goes on as before."""
    before = load.answered
    wait_until(lambda: load.answered >= before + MORE)


def assert_all_is_well(site: Site, load: Load, *processes: Process) -> None:
    assert load.wrong == []
    assert [process.popen.poll() for process in processes] == [None] * len(processes)
    assert site.ready()


def ordinary_clients(server: EmbeddedServer) -> list[str]:
    """Who is connected to a server, apart from this test and other servers."""
    with connect(server.url) as client:
        found: Any = client.client_list(_type="normal")
        return [one["cmd"] for one in found if one["id"] != str(client.client_id())]


@pytest.mark.soak  # a Sentinel promotes one below
@pytest.mark.parametrize(
    "cuts", [pytest.param(True, id="cut", marks=pytest.mark.soak), pytest.param(False, id="left open")]
)
def test_row_10_a_replica_is_promoted_by_hand(tmp_path: Path, model_name: str, cuts: bool) -> None:
    """The old primary becomes a replica. Its connections stay open in one case, and must be given up all the same."""
    with (
        servers.pair(tmp_path) as (old, new),
        Proxy(old.config.port) as way,
        Site(way.url, model_name, tmp_path, LEASE_MS="1500") as site,
    ):
        site.front_end()
        front_end, consumer = site.stack.latest, site.consumer()
        site.stack.wait(model_name)
        with Load(site) as load:
            settle(load)
            servers.promote(new)
            servers.follow(old, new.config.port)
            wait_until(lambda: not site.ready())
            way.lead_to(new.config.port, cuts=cuts)
            settle(load)
            wait_until(lambda: ordinary_clients(old) == [])
            old.kill()
            settle(load)
        assert_all_is_well(site, load, front_end, consumer)


def test_row_10_a_sentinel_promotes_a_replica(tmp_path: Path, model_name: str) -> None:
    with (
        servers.pair(tmp_path, "geheim") as (old, new),
        servers.sentinel(tmp_path, SERVICE, old.config.port, "geheim", "sesam") as port,
    ):
        # The first Sentinel is one that does not answer.
        hosts = f"{HOST}:1,{HOST}:{port}"
        url = f"redis+sentinel://:geheim@{hosts}/{SERVICE}/0?sentinel_password=sesam"
        with Site(url, model_name, tmp_path, LEASE_MS="1500", LOG_LEVEL="debug") as site:
            site.front_end()
            front_end, consumer = site.stack.latest, site.consumer()
            site.stack.wait(model_name)
            with Load(site) as load:
                settle(load)
                old.kill()
                wait_until(lambda: is_primary(servers.with_password(new.url, "geheim")))
                settle(load)
            assert_all_is_well(site, load, front_end, consumer)
            command = [sys.executable, "-m", "headrace", "status", "--json"]
            environment = clean_environment(HEADRACE_REDIS_URL=url)
            status = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
            assert status.returncode == 0, status.stderr
            assert model_name in status.stdout
            for process in (front_end, consumer):
                assert "geheim" not in process.text()
                assert "sesam" not in process.text()


def is_primary(url: str) -> bool:
    """Ask on a connection of its own: a Sentinel ends all that a server has when it promotes it."""
    try:
        with connect(url) as client:
            said: Any = client.info("replication")
            return bool(said["role"] == "master")
    except RedisError:
        return False


REDIS = shutil.which("redis-server")
SERVES_TLS = REDIS is not None and "libssl" in subprocess.run(["ldd", REDIS], capture_output=True, text=True).stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.skipif(not SERVES_TLS, reason="no redis-server with TLS is installed")
def test_sentinels_and_servers_in_tls(tmp_path: Path) -> None:
    assert REDIS is not None
    cert, key = certificate(tmp_path, "redis")
    files = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
    plain, port, sentinel_port = free_port(), free_port(), free_port()
    server = [REDIS, "--port", plain, "--tls-port", port, "--save", "", "--dir", tmp_path, *files]
    lines = [f"{name[2:]} {value}" for name, value in zip(files[::2], files[1::2], strict=True)]
    lines += [f"tls-port {sentinel_port}", "tls-replication yes"]
    with (
        servers.process([str(word) for word in server], plain, tmp_path / "redis.log"),
        servers.sentinel(tmp_path, SERVICE, port, "", "sesam", *lines, executable=REDIS, has_replica=False),
    ):
        url = f"rediss+sentinel://localhost:{sentinel_port}/{SERVICE}/1?sentinel_password=sesam"
        wait_until(lambda: works(f"{url}&ssl_ca_certs={cert}"))
        for ask in (asked_synchronously, lambda url: asyncio.run(asked(url))):
            said = ask(f"{url}&ssl_ca_certs={cert}")
            assert b" db=1 " in said
            assert b"laddr=127.0.0.1:%d " % port in said
            with pytest.raises(RedisError, match=r"(?i)certificate"):
                ask(url)


def works(url: str) -> bool:
    """A Sentinel has to see a server before it says where it is."""
    try:
        return bool(asked_synchronously(url))
    except RedisError:
        return False


async def asked(url: str) -> Any:
    client = connect_async(url, 1.0)
    link = Link(client)
    try:
        return await link.call("CLIENT", "INFO")
    finally:
        await link.close()
        await client.aclose()


def asked_synchronously(url: str) -> Any:
    with connect(url, 1.0) as client:
        link = SyncLink(client)
        try:
            return link.call("CLIENT", "INFO")
        finally:
            link.close()


@pytest.mark.parametrize("ask", [asked_synchronously, lambda url: asyncio.run(asked(url))], ids=["sync", "async"])
def test_what_is_wrong_with_sentinels_is_one_sentence_without_secrets(tmp_path: Path, ask: Any) -> None:
    with servers.pair(tmp_path) as (primary, _), servers.sentinel(tmp_path, SERVICE, primary.config.port) as port:
        assert b" db=3 " in ask(f"redis+sentinel://{HOST}:{port}/{SERVICE}/3")
        for address, sentence in (
            (f"{HOST}:{port}/other", f"The Sentinels at {HOST}:{port} know no service 'other'"),
            (f"{HOST}:1/{SERVICE}", f"No Sentinel at {HOST}:1 says where '{SERVICE}' is"),
            (f"{HOST}:{port}/{SERVICE}?sentinel_username=x&sentinel_password=secret", "No Sentinel at .*says where"),
        ):
            with pytest.raises(RedisError, match=sentence) as caught:
                ask(f"redis+sentinel://:secret@{address}")
            assert "secret" not in str(caught.value)

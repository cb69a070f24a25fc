"""Redis has no room left: its memory is full (row 12), or the disk of its append-only file (row 13)."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from shared import keys
from shared.redis.client import OutOfMemory
from shared.wire.messages import Request, encode_request
from tests.e2e.stack import Response, call
from tests.embedded import EmbeddedServer
from tests.fault.redis.servers import server_in
from tests.fault.site import Site, body_of, wait_until
from tests.needs import is_missing

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]

ROOM_BYTES = 3 << 20
LARGE = bytes(30_000)


def refused(answer: Response) -> tuple[int, str, bool]:
    """Status and code of a refusal, and whether it says when to come back."""
    code = answer.body["error"]["code"] if answer.status != 200 else "ok"
    return answer.status, code, "retry-after" in {name.lower() for name in answer.headers}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with server_in(tmp_path / "redis") as server:
        yield server


def fill(site: Site) -> int:
    """Add requests until Redis refuses one; returns how many it took."""
    for number in itertools.count():
        request = Request(f"direct-{number}", 60_000, "application/octet-stream", LARGE)
        try:
            site.redis.xadd(site.work, {keys.MESSAGE_FIELD: encode_request(request, None)}, nomkstream=True)
        except OutOfMemory:
            return number
    raise AssertionError


def test_row_12_memory_is_full(server: EmbeddedServer, tmp_path: Path, model_name: str) -> None:
    """Nothing is configured, deleted or started again: what is in the queue is done, and then there is room."""
    with Site(server.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(4) as pool:
        site.front_end()
        consumer = site.consumer()
        site.stack.wait(model_name)
        consumer.signal(SIGSTOP)
        admitted = [pool.submit(site.ask, b"%d" % number, f"admitted-{number}") for number in range(4)]
        wait_until(lambda: site.length() == 4)
        site.redis.config_set("maxmemory", site.redis.info("memory")["used_memory"] + ROOM_BYTES)
        taken = fill(site)
        assert taken > 20
        # Well above it, as with clients that are slow to read: else a few bytes become free, and anything passes.
        site.redis.config_set("maxmemory", site.redis.info("memory")["used_memory"] - ROOM_BYTES // 3)
        wait_until(lambda: refused(site.ask(b"small", timeout_ms=300)) == (503, "queue_out_of_memory", True))
        assert refused(site.ask(LARGE, timeout_ms=1000)) == (503, "queue_out_of_memory", True)
        readyz = f"{site.stack.url}/readyz"
        wait_until(lambda: "Redis is nearly out of memory." in call(readyz).body["reasons"])
        consumer.signal(SIGCONT)
        assert [body_of(one.result()) for one in admitted] == [b"0", b"1", b"2", b"3"]
        wait_until(lambda: site.length() == 0)
        assert [len(site.replies(f"direct-{number}")) for number in range(taken)] == [1] * taken
        wait_until(lambda: site.ask(b"as before").status == 200)
        wait_until(site.ready)
        assert consumer.popen.poll() is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        why = f"A small file system cannot be mounted here: {mounted.stderr.strip()}"
        if os.geteuid() != 0:
            pytest.skip(why)
        is_missing(why)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def stuff(place: Path) -> Path:
    """Fill a file system up to the last byte with a file that can be deleted again."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


@pytest.mark.parametrize("appendonly", ["everysec", "always"])
def test_row_13_the_disk_is_full(small_disk: Path, tmp_path: Path, model_name: str, appendonly: str) -> None:
    """With ``always`` the server ends itself, and cannot be started again until there is room."""
    with (
        server_in(small_disk, appendonly=appendonly) as server,
        Site(server.url, model_name, tmp_path, LEASE_MS="3000") as site,
    ):
        site.front_end()
        front_end, consumer = site.stack.latest, site.consumer()
        site.stack.wait(model_name)
        assert body_of(site.ask(b"before", "before")) == b"before"
        ballast = stuff(small_disk)
        # Before the consumer counts as gone, since it cannot say any more that it lives.
        wait_until(lambda: refused(site.ask(bytes(5000), timeout_ms=300)) == (503, "queue_unavailable", True))
        # A large one takes another way into the lane.
        for body, request_id in ((LARGE, ""), *[(b"meanwhile", "meanwhile")] * 9):
            status, code, says_when = refused(site.ask(body, request_id, timeout_ms=20_000))
            assert (status, says_when) == (503, True)
            assert code in ("queue_unavailable", "no_worker")
        wait_until(lambda: not site.ready())
        ballast.unlink()
        if appendonly == "always":
            server.stop()  # it has ended already
            server.start()
        wait_until(site.ready)
        assert body_of(site.ask(b"meanwhile", "meanwhile")) == b"meanwhile"
        assert body_of(site.ask(b"before", "before")) == b"before"
        assert (front_end.popen.poll(), consumer.popen.poll()) == (None, None)

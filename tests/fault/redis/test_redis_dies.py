"""Redis is killed and started again: rows 8 and 9, a power failure included."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import RedisError, connect
from shared.wire.messages import Request, encode_request
from tests.embedded import EmbeddedServer
from tests.fault.load import Load
from tests.fault.redis.servers import server_in
from tests.fault.site import Site, body_of, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(90)]


@pytest.fixture
def always(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with server_in(tmp_path / "redis", appendonly="always") as server:
        yield server


@pytest.fixture
def everysec(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with server_in(tmp_path / "redis", appendonly="everysec") as server:
        yield server


class DirectProducer:
    """Adds requests without waiting for their answers, and remembers which of them Redis has acknowledged."""

    def __init__(self, site: Site, url: str) -> None:
        self._site, self._url = site, url
        self.acknowledged: list[str] = []

    def add_until_it_fails(self, most: int = 100_000) -> None:
        """Add one after the other until the server is gone."""
        with connect(self._url) as client:
            try:
                for number in range(most):
                    request = Request(f"direct-{number}", 120_000, "application/octet-stream", b"%d" % number)
                    message = encode_request(request, None)
                    assert client.xadd(self._site.work, {keys.MESSAGE_FIELD: message}, nomkstream=True)
                    self.acknowledged.append(request.id)
            except RedisError:
                return


def test_row_8_killed_and_restarted_with_appendfsync_always(
    always: EmbeddedServer, tmp_path: Path, model_name: str
) -> None:
    with Site(always.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(1) as pool:
        site.front_end()
        front_end = site.stack.latest
        consumers = [site.consumer(WINDOW_MS="20", MAX_BATCH="8") for _ in range(2)]
        site.stack.wait(model_name)
        direct = DirectProducer(site, always.url)
        with Load(site, clients=3, timeout_ms=10_000) as load:
            adding = pool.submit(direct.add_until_it_fails)
            wait_until(lambda: load.answered >= 20 and len(direct.acknowledged) >= 50)
            always.kill()
            adding.result()
            for consumer in consumers:
                consumer.signal(signal.SIGSTOP)
            always.start()
            # Nobody has been there yet who would make them.
            assert site.redis.function_list(library="headrace1")
            assert [group["name"] for group in groups(site)] == [keys.GROUP.encode()]
            for consumer in consumers:
                consumer.signal(signal.SIGCONT)
            before = load.answered
            wait_until(lambda: load.answered >= before + 20)
            wait_until(lambda: all(len(site.replies(one)) == 1 for one in direct.acknowledged))
        assert load.wrong == []
        wait_until(lambda: site.length() == 0)
        assert [process.popen.poll() for process in (front_end, *consumers)] == [None] * 3


def groups(site: Site) -> list[dict[str, Any]]:
    found: Any = site.redis.xinfo_groups(site.work)
    return list(found)


def append_only_file(server: EmbeddedServer) -> Path:
    """The file that commands are appended to."""
    (file,) = (server.config.data_dir / "appendonlydir").glob("*.incr.aof")
    return file


def test_row_9_everysec_and_a_power_failure(everysec: EmbeddedServer, tmp_path: Path, model_name: str) -> None:
    """SIGKILL loses nothing, since the kernel has it; what a machine loses with its power is cut off by the test."""
    with Site(everysec.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(16) as pool:
        site.front_end()
        consumer = site.consumer(WINDOW_MS="0", MAX_BATCH="1")
        site.stack.wait(model_name)
        # What is cut off below must be what this setting may lose.
        assert site.redis.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert body_of(site.ask(b"before", "before")) == b"before"
        held = site.hold()
        kept = [pool.submit(site.ask, b"hold", "kept-0")]
        wait_until(lambda: site.length() == 1)  # what comes later is behind it
        kept += [pool.submit(site.ask, b"%d" % number, f"kept-{number}") for number in range(1, 5)]
        wait_until(lambda: site.length() == 5)
        file = append_only_file(everysec)
        # The server puts a write off while it waits for the disk.
        wait_until(lambda: site.redis.info("persistence")["aof_buffer_length"] == 0)
        on_disk = file.stat().st_size
        vanished = [pool.submit(site.ask, b"%d" % number, f"vanished-{number}", 4000) for number in range(5)]
        wait_until(lambda: site.length() == 10)
        everysec.kill()
        with file.open("r+b") as end:
            end.truncate(on_disk)
        everysec.start()
        assert site.length() == 5
        held.unlink()
        assert sorted(body_of(one.result()) for one in kept) == [b"1", b"2", b"3", b"4", b"hold"]
        lost = [one.result() for one in vanished]
        assert [(one.status, one.body["error"]["code"]) for one in lost] == [(504, "unknown_outcome")] * 5
        for number, one in enumerate(lost):
            assert body_of(site.ask(b"%d" % number, one.body["error"]["id"])) == b"%d" % number
        assert body_of(site.ask(b"before", "before")) == b"before"
        assert consumer.popen.poll() is None


@pytest.mark.soak
def test_a_commit_that_a_power_failure_took_back_is_made_again(
    everysec: EmbeddedServer, tmp_path: Path, model_name: str
) -> None:
    """The client has its answer, and the server has forgotten that it gave one: the entry is pending again."""
    with Site(everysec.url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(1) as pool:
        site.front_end()
        site.consumer()
        site.stack.wait(model_name)
        held = site.hold()
        first = pool.submit(site.ask, b"hold", "twice")
        wait_until(lambda: site.pending() == 1)
        file = append_only_file(everysec)
        on_disk = file.stat().st_size
        held.unlink()
        assert body_of(first.result()) == b"hold"
        everysec.kill()
        with file.open("r+b") as end:
            end.truncate(on_disk)
        everysec.start()
        assert site.replies("twice") == []
        # A front end that has just lost the server says 503 until it is connected again.
        wait_until(lambda: site.ask(b"hold", "twice").status != 503)
        assert body_of(site.ask(b"hold", "twice")) == b"hold"
        assert len(site.replies("twice")) == 1

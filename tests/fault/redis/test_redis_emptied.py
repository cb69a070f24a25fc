"""Row 11: everything is flushed, or the stream or its group deleted, while consumers block and clients wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from shared import keys
from tests.embedded import EmbeddedServer
from tests.fault.redis.servers import server_in
from tests.fault.site import Site, body_of, wait_until
from tests.helpers import first

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with server_in(tmp_path / "redis") as server:
        yield server


def flush(client: redis.Redis, work: str) -> None:
    client.flushall()


def flush_functions_too(client: redis.Redis, work: str) -> None:
    client.flushall()
    client.function_flush("SYNC")


def delete_stream(client: redis.Redis, work: str) -> None:
    client.delete(work)


def delete_group(client: redis.Redis, work: str) -> None:
    client.xgroup_destroy(work, keys.GROUP)


def group(site: Site) -> dict[str, Any] | None:
    """The lane's group, None while there is none."""
    try:
        found: Any = site.redis.xinfo_groups(site.work)
    except redis.ResponseError:  # no such key
        return None
    return found[0] if found else None


Deletes = Callable[[redis.Redis, str], None]


@pytest.mark.parametrize("deletes", first(1, [flush_functions_too, flush, delete_stream]))
def test_row_11_what_waited_is_gone(server: EmbeddedServer, tmp_path: Path, model_name: str, deletes: Deletes) -> None:
    with Site(server.url, model_name, tmp_path) as site, ThreadPoolExecutor(4) as pool:  # the lease as shipped
        site.front_end()
        consumers = [site.consumer(WINDOW_MS="0", MAX_BATCH="1") for _ in range(2)]
        site.stack.wait(model_name)
        held = site.hold()
        waiting = [pool.submit(site.ask, b"hold", f"gone-{number}", 3000) for number in range(4)]
        wait_until(lambda: site.length() == 4)
        deletes(site.redis, site.work)
        made: Any = wait_until(lambda: group(site))
        assert made is not None
        assert made["last-delivered-id"] == b"0-0"
        ends = [one.result() for one in waiting]
        assert [(end.status, end.body["error"]["code"]) for end in ends] == [(504, "unknown_outcome")] * 4
        assert all("Ask again with the same id" in end.body["error"]["message"] for end in ends)
        held.unlink()
        assert [body_of(site.ask(b"again", f"gone-{number}")) for number in range(4)] == [b"again"] * 4
        assert [consumer.popen.poll() for consumer in consumers] == [None, None]


def test_row_11_a_deleted_group_costs_nobody_an_answer(server: EmbeddedServer, tmp_path: Path, model_name: str) -> None:
    """The group is made again at 0, so that what waits and what is being worked on is delivered once more."""
    with Site(server.url, model_name, tmp_path) as site, ThreadPoolExecutor(8) as pool:
        site.front_end()
        consumers = [site.consumer(WINDOW_MS="0", MAX_BATCH="1") for _ in range(2)]
        site.stack.wait(model_name)
        held = site.hold()
        waiting = [pool.submit(site.ask, b"hold", f"kept-{number}") for number in range(8)]
        wait_until(lambda: site.length() == 8 and site.pending() >= 2)
        delete_group(site.redis, site.work)
        wait_until(lambda: group(site))
        held.unlink()
        assert [body_of(one.result()) for one in waiting] == [b"hold"] * 8
        assert [len(site.replies(f"kept-{number}")) for number in range(8)] == [1] * 8
        wait_until(lambda: (site.length(), site.pending()) == (0, 0))
        assert [consumer.popen.poll() for consumer in consumers] == [None, None]

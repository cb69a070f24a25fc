"""Redis is away for a while under load: dead, or silent. Nothing is started again but Redis itself."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import call
from tests.embedded import EmbeddedServer
from tests.fault.load import Load
from tests.fault.redis.proxy import Proxy
from tests.fault.redis.servers import server_in
from tests.fault.site import Site, wait_until

NOTICED_S = 1.0
"""The timeout after which silence is noticed: a front end that asked Redis each time would take as long to refuse."""

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

Step = Callable[[EmbeddedServer, Proxy], None]

FAULTS: dict[str, tuple[Step, Step]] = {
    "killed": (lambda server, way: server.kill(), lambda server, way: server.start()),
    "stopped": (
        lambda server, way: os.kill(server.pid, signal.SIGSTOP),
        lambda server, way: os.kill(server.pid, signal.SIGCONT),
    ),
    "cable pulled": (lambda server, way: way.fall_silent(), lambda server, way: way.speak()),
    "cut off": (lambda server, way: way.refuse(), lambda server, way: way.accept()),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with server_in(tmp_path / "redis", appendonly="always") as server:
        yield server
        with contextlib.suppress(RuntimeError):  # it is not running
            os.kill(server.pid, signal.SIGCONT)


# Half a minute of each takes long; a few seconds of one show the same. One that is killed is in test_redis_dies.py.
TIMES = [
    *(pytest.param(fault, 4.0, id=f"{fault}-4s") for fault in ("stopped",)),
    *(pytest.param(fault, 30.0, id=f"{fault}-30s", marks=pytest.mark.soak) for fault in FAULTS),
]


@pytest.mark.parametrize(("fault", "away_s"), TIMES)
def test_redis_is_away_under_load(
    server: EmbeddedServer, tmp_path: Path, model_name: str, fault: str, away_s: float
) -> None:
    goes, comes_back = FAULTS[fault]
    with Proxy(server.config.port) as way, Site(way.url, model_name, tmp_path, LEASE_MS="1500") as site:
        site.front_end()
        front_end, consumers = site.stack.latest, [site.consumer() for _ in range(2)]
        site.stack.wait(model_name)
        with Load(site) as load:
            wait_until(lambda: load.answered >= 20)
            goes(server, way)
            wait_until(lambda: not site.ready())
            noticed_s = time.monotonic()
            threading.Event().wait(away_s)
            assert not site.ready()
            assert call(f"{site.stack.url}/healthz").status == 200
            refused = [one for one in list(load.tries) if one.begun_s > noticed_s]
            comes_back(server, way)
            assert {one.status for one in refused} == {503}
            assert statistics.median(one.took_s for one in refused) < NOTICED_S
            wait_until(site.ready)
            before = load.answered
            wait_until(lambda: load.answered >= before + 40)
        assert load.wrong == []
        assert {one.status for one in load.tries[-20:]} == {200}
        assert [process.popen.poll() for process in (front_end, *consumers)] == [None] * 3
        wait_until(lambda: (site.length(), site.pending()) == (0, 0))


def test_a_slow_network_loses_nothing(server: EmbeddedServer, tmp_path: Path, model_name: str) -> None:
    with Proxy(server.config.port) as way, Site(way.url, model_name, tmp_path, LEASE_MS="1500") as site:
        site.front_end()
        site.consumer()
        site.stack.wait(model_name)
        way.delay_s = 0.1
        with Load(site, timeout_ms=10_000) as load:
            wait_until(lambda: load.answered >= 20)
        assert load.wrong == []
        assert set(load.statuses()) == {200}

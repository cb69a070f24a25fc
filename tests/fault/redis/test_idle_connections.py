"""What stands between the processes and Redis forgets connections that nobody uses: a request that comes then is
answered as any other, and what was idle has been asked in time or is replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer_api.queue.admitter import IDLE_S
from tests.fault.redis.proxy import Proxy, calls
from tests.fault.site import Site, body_of, port_of, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(90)]

FORGETS_AFTER_S = 4.0


@pytest.fixture
def network(valkey_url: str) -> Iterator[Proxy]:
    with Proxy(port_of(valkey_url)) as proxy:
        yield proxy


@pytest.fixture
def site(valkey_url: str, network: Proxy, model_name: str, tmp_path: Path) -> Iterator[Site]:
    with Site(valkey_url, model_name, tmp_path) as site:
        site.front_end(REDIS_URL=network.url)
        site.consumer(REDIS_URL=network.url)
        site.stack.wait(model_name)
        assert body_of(site.ask(b"before", "before")) == b"before"
        yield site


def test_a_network_that_forgets_what_is_idle_for_four_seconds_is_never_noticed(site: Site, network: Proxy) -> None:
    network.forgets_after_s = FORGETS_AFTER_S
    pings = network.watch(calls("PING"))
    begun_s = time.monotonic()
    wait_until(lambda: time.monotonic() - begun_s > 2.5 * FORGETS_AFTER_S)
    for number in range(3):
        assert body_of(site.ask(b"%d" % number, timeout_ms=3_000)) == b"%d" % number
    assert network.forgotten == 0
    assert len(pings.seen) >= 4


@pytest.mark.soak
def test_what_was_forgotten_all_the_same_is_replaced_before_a_request_needs_it(site: Site, network: Proxy) -> None:
    """Everything at once, as when the box in between is restarted; then the first request is like any other."""
    network.forget()
    pings = network.watch(calls("PING"))
    # Those that are read all the time are silent for their whole timeout; the others are asked and given up.
    wait_until(lambda: len(pings.seen) >= 2)
    wait_until(site.ready)
    wait_until(lambda: site.ask(b"probe", timeout_ms=3_000).status == 200)
    assert [body_of(site.ask(b"%d" % number, timeout_ms=3_000)) for number in range(5)] == [b"%d" % i for i in range(5)]


def test_a_request_that_meets_a_closed_connection_goes_again_where_that_adds_nothing(
    site: Site, network: Proxy
) -> None:
    """The worst case: the call took effect, and the connection is closed in place of its answer."""
    for request_id, expected in (("mine", 200), ("", 503)):
        idle_since_s = time.monotonic()
        wait_until(lambda: time.monotonic() - idle_since_s > 2 * IDLE_S)  # noqa: B023 - called at once
        before = site.added()
        loss = network.lose(calls("hr1_admit"), cuts=True)
        answer = site.ask(b"once-" + request_id.encode(), request_id)
        assert loss.struck.wait(10)
        assert answer.status == expected, answer.body
        assert site.added() == before + 1
    assert site.runs_of("once-mine") == 1


@pytest.mark.soak  # what pings are for is above
def test_without_pings_an_idle_connection_is_not_asked(
    valkey_url: str, network: Proxy, model_name: str, tmp_path: Path
) -> None:
    with Site(valkey_url, model_name, tmp_path, REDIS_PING_MS="0") as site:
        pings = network.watch(calls("PING"))
        site.front_end(REDIS_URL=network.url)
        site.consumer(REDIS_URL=network.url)
        site.stack.wait(model_name)
        begun_s = time.monotonic()
        beats: Any = network.watch(calls("hr1_heartbeat"))
        wait_until(lambda: time.monotonic() - begun_s > 5 and len(beats.seen) > 3)
        assert pings.seen == []

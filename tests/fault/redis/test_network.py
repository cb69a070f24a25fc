"""The network swallows an answer after the command has taken effect: rows 14 to 16, with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fault.redis.proxy import Proxy, calls
from tests.fault.site import Site, body_of, port_of, wait_until
from tests.helpers import first

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]

# So long that no work is taken over while a test runs: what is found again is found in another way.
LONG_LEASE_MS = "40000"

each_way = pytest.mark.parametrize("cuts", first(1, [True, False]), ids=["cut", "silence"])


@pytest.fixture
def network(valkey_url: str) -> Iterator[Proxy]:
    with Proxy(port_of(valkey_url)) as proxy:
        yield proxy


@each_way
def test_row_14_the_answer_to_admit_is_lost(
    valkey_url: str, network: Proxy, model_name: str, tmp_path: Path, cuts: bool
) -> None:
    with Site(valkey_url, model_name, tmp_path, LEASE_MS="1500") as site, ThreadPoolExecutor(2) as pool:
        far, near = site.front_end(REDIS_URL=network.url), site.front_end()
        site.consumer()
        site.stack.wait(model_name)
        wait_until(lambda: site.ready(far))
        held, before = site.hold(), site.added()
        loss = network.lose(calls("hr1_admit"), cuts=cuts)
        first = site.ask(b"hold", "mine", via=far)
        assert loss.struck.wait(10)
        assert (first.status, first.body["error"]["code"], first.body["error"]["id"]) == (
            503,
            "queue_unavailable",
            "mine",
        )
        assert site.added() == before + 1
        again = [pool.submit(site.ask, b"hold", "mine", via=via) for via in (far, near)]
        wait_until(lambda: site.runs_of("hold") == 1)
        held.unlink()
        assert [body_of(one.result()) for one in again] == [b"hold", b"hold"]
        assert (site.added(), site.runs_of("hold"), len(site.replies("mine"))) == (before + 1, 1, 1)


@each_way
def test_row_15_the_answer_to_a_read_is_lost(
    valkey_url: str, network: Proxy, model_name: str, tmp_path: Path, cuts: bool
) -> None:
    with Site(valkey_url, model_name, tmp_path, LEASE_MS=LONG_LEASE_MS) as site:
        site.front_end()
        consumer = site.consumer(REDIS_URL=network.url)
        site.stack.wait(model_name)
        loss = network.lose(calls("XREADGROUP"), carrying=b"lost-1", cuts=cuts)
        answer = site.ask(b"found again", "lost-1")
        assert loss.struck.wait(10)
        assert body_of(answer) == b"found again"
        assert site.runs_of("again") == 1
        wait_until(lambda: site.length() == 0)
        assert f'headrace_redeliveries_total{{model="{model_name}"}} 0.0' in site.stack.metrics(consumer)


@each_way
@pytest.mark.parametrize("count", [pytest.param(1, id="alone", marks=pytest.mark.soak), pytest.param(12, id="twelve")])
def test_row_16_the_answer_to_a_commit_is_lost(
    valkey_url: str, network: Proxy, model_name: str, tmp_path: Path, cuts: bool, count: int
) -> None:
    with (
        Site(valkey_url, model_name, tmp_path, LEASE_MS=LONG_LEASE_MS, MAX_BATCH="12", WINDOW_MS="50") as site,
        ThreadPoolExecutor(count) as pool,
    ):
        site.front_end()
        consumer = site.consumer(REDIS_URL=network.url)
        site.stack.wait(model_name)
        commits = network.watch(lambda command: calls("hr1_commit")(command) and b"once-0" in command)
        loss = network.lose(commits.fits, cuts=cuts)
        asked = [pool.submit(site.ask, b"%d" % number, f"once-{number}") for number in range(count)]
        # The hint has gone out although the consumer does not know: nobody waits for the retry.
        assert [body_of(one.result()) for one in asked] == [b"%d" % number for number in range(count)]
        assert loss.struck.wait(10)
        stored = [site.replies(f"once-{number}") for number in range(count)]
        wait_until(lambda: len(commits.seen) == 2)
        assert consumer.terminate() == 0
        assert [site.replies(f"once-{number}") for number in range(count)] == stored
        assert [len(one) for one in stored] == [1] * count
        assert [site.runs_of(f"{number}") for number in range(count)] == [1] * count
        assert (site.length(), site.pending()) == (0, 0)

"""What happens when processes stop, die or fall silent, with real processes, real signals and short leases."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.stack import Response, Stack, call, echo_models
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

LEASE_MS = "1500"

# Processes start and leases run out meanwhile.
wait_until = partial(eventually, limit_s=50.0)

pytestmark = pytest.mark.fault


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own, which it may stop, flush and fill."""
    with EmbeddedServer(ServerConfig(tmp_path / "redis", free_port(), appendonly="always", maxmemory_mb=64)) as server:
        yield server


@pytest.fixture
def stack(server: EmbeddedServer, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    """A front end on that server; consumers are the tests' business."""
    with Stack(server.url, echo_models(tmp_path, model_name), LEASE_MS=LEASE_MS, LANE_LIMIT="20") as stack:
        yield stack


def depth(server: EmbeddedServer, model: str) -> tuple[int, int]:
    """Length of the work stream, and how many of its entries are claimed."""
    work = keys.work(model, keys.DEFAULT_LANE)
    with connect(server.url) as redis:
        return redis.xlen(work), redis.xpending(work, keys.GROUP)["pending"]


def age_ms(server: EmbeddedServer, model: str) -> int:
    """Age of the oldest entry of the work stream, on Redis's clock."""
    with connect(server.url) as redis:
        seconds, microseconds = redis.time()
        [(entry_id, _)] = redis.xrange(keys.work(model, keys.DEFAULT_LANE), count=1)
        age: int = seconds * 1000 + microseconds // 1000 - int(entry_id.partition(b"-")[0])
    return age


def test_without_a_consumer_there_is_a_clear_503(stack: Stack, model_name: str) -> None:
    stack.start_front_end(HOLD_WHILE_COLD="off")
    assert stack.predict(model_name, b"x").status == 404
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    assert consumer.terminate() == 0
    wait_until(lambda: call(f"{stack.url}/v1/models/{model_name}").body["workers"] == 0)
    answer = stack.predict(model_name, b"x")
    assert (answer.status, answer.body["error"]["code"]) == (503, "no_worker")
    assert int(answer.headers["retry-after"]) >= 1
    assert call(f"{stack.url}/readyz").status == 503


def test_sigterm_drains_and_nobody_notices(stack: Stack, model_name: str) -> None:
    stack.start_front_end()
    first, second = stack.start_consumer(model_name), stack.start_consumer(model_name)
    stack.wait(model_name)
    sent = 0
    with ThreadPoolExecutor(8) as pool:
        answers: list[Future[Response]] = []
        for consumer in (first, second):
            ended = threading.Event()

            def stop(process=consumer, ended=ended) -> None:  # type: ignore[no-untyped-def]
                assert process.terminate() == 0
                ended.set()

            stopper = threading.Thread(target=stop)
            stopper.start()
            while not ended.is_set() or sent % 50:
                answers.append(pool.submit(stack.predict, model_name, b"%d" % sent))
                answers[-1].result()
                sent += 1
            stopper.join()
            stack.start_consumer(model_name)
    assert {answer.result().status for answer in answers} == {200}


def test_the_work_of_a_killed_consumer_is_done_by_another(
    stack: Stack, server: EmbeddedServer, model_name: str
) -> None:
    stack.start_front_end()
    doomed = stack.start_consumer(model_name, WINDOW_MS="900", MAX_BATCH="8")
    stack.wait(model_name)
    with ThreadPoolExecutor(4) as pool:
        # The long window holds the four requests in the consumer, claimed and not run.
        waiting = [pool.submit(stack.predict, model_name, b"%d" % index) for index in range(4)]
        wait_until(lambda: depth(server, model_name) == (4, 4))
        doomed.signal(signal.SIGKILL)
        doomed.popen.wait()
        stack.start_consumer(model_name)
        answers = [future.result() for future in waiting]
    assert [answer.status for answer in answers] == [200] * 4
    assert [bytes(answer.body["outputs"][0]["data"]) for answer in answers] == [b"%d" % index for index in range(4)]
    assert depth(server, model_name) == (0, 0)


def test_a_consumer_paused_beyond_its_lease_changes_nothing_when_it_goes_on(
    stack: Stack, server: EmbeddedServer, model_name: str
) -> None:
    stack.start_front_end()
    paused = stack.start_consumer(model_name, WINDOW_MS="900", MAX_BATCH="8")
    stack.wait(model_name)
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(stack.predict, model_name, b"%d" % index, query=f"?id=late-{index}") for index in range(3)
        ]
        wait_until(lambda: depth(server, model_name) == (3, 3))
        paused.signal(signal.SIGSTOP)
        stack.start_consumer(model_name)
        answers = [future.result() for future in waiting]
    assert [answer.status for answer in answers] == [200] * 3
    paused.signal(signal.SIGCONT)
    assert paused.terminate() == 0
    with connect(server.url) as redis:
        stored = [redis.llen(keys.reply(model_name, keys.DEFAULT_LANE, f"late-{index}")) for index in range(3)]
    assert stored == [1, 1, 1]


def test_a_deadline_that_passes_in_the_queue_is_504_and_no_inference(
    stack: Stack, server: EmbeddedServer, model_name: str
) -> None:
    """The consumer may have claimed it, and was stopped before it could read it."""
    stack.start_front_end()
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    consumer.signal(signal.SIGSTOP)
    begun_s = time.monotonic()
    answer = stack.predict(model_name, b"x", query="?timeout_ms=100&id=slow-1")
    assert time.monotonic() - begun_s >= 0.09
    assert (answer.status, answer.body["error"]["code"], answer.body["error"]["id"]) == (
        504,
        "unknown_outcome",
        "slow-1",
    )
    # The client's deadline begins a moment before the entry's, which counts on Redis's clock from when it was added.
    wait_until(lambda: age_ms(server, model_name) > 600)
    consumer.signal(signal.SIGCONT)
    wait_until(lambda: depth(server, model_name) == (0, 0))
    wait_until(lambda: stack.ended(consumer, "expired") > 0)
    again = stack.predict(model_name, b"x", query="?id=slow-1")
    assert again.status == 200


def test_a_full_lane_is_429(stack: Stack, server: EmbeddedServer, model_name: str) -> None:
    stack.start_front_end()
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    consumer.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(stack.predict, model_name, b"x", query="?timeout_ms=20000") for _ in range(40)]
        wait_until(lambda: sum(future.done() for future in waiting) >= 20)
        consumer.signal(signal.SIGCONT)
        answers = [future.result() for future in waiting]
    assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 20
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.body["error"]["code"] == "lane_full"
    assert int(refused.headers["retry-after"]) >= 1


def test_a_flushed_server_heals(stack: Stack, server: EmbeddedServer, model_name: str) -> None:
    stack.start_front_end()
    stack.start_consumer(model_name)
    stack.wait(model_name)
    with connect(server.url) as redis:
        redis.flushall()
        redis.function_flush("SYNC")
    stack.wait(model_name)
    assert stack.predict(model_name, b"x").status == 200


def test_a_server_that_goes_away_is_503_and_comes_back_by_itself(
    stack: Stack, server: EmbeddedServer, model_name: str
) -> None:
    stack.start_front_end()
    stack.start_consumer(model_name)
    stack.wait(model_name)
    server.kill()
    wait_until(lambda: call(f"{stack.url}/readyz").status == 503)
    answer = stack.predict(model_name, b"x")
    assert (answer.status, answer.body["error"]["code"]) == (503, "queue_unavailable")
    assert "retry-after" in {name.lower() for name in answer.headers}
    assert call(f"{stack.url}/healthz").status == 200
    server.start()
    stack.wait(model_name)
    assert stack.predict(model_name, b"x").status == 200


def test_a_server_out_of_memory_is_503_until_there_is_room(
    stack: Stack, server: EmbeddedServer, model_name: str
) -> None:
    stack.start_front_end()
    stack.start_consumer(model_name)
    stack.wait(model_name)
    with connect(server.url) as redis:
        redis.set("ballast", bytes(8 << 20))
        redis.config_set("maxmemory", "4mb")
        for body in (b"x", bytes(50_000)):
            answer = stack.predict(model_name, body)
            assert (answer.status, answer.body["error"]["code"]) == (503, "queue_out_of_memory")
        redis.delete("ballast")
        redis.config_set("maxmemory", "64mb")
    wait_until(lambda: stack.predict(model_name, b"x").status == 200)  # it looks at the memory once a second

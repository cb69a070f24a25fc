"""Consumers that come and go all the time, half of them in order and half by SIGKILL, while requests come."""

from __future__ import annotations

import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually

LANE = keys.DEFAULT_LANE
MOST_NAMES = 12
"""Those that died within the last few leases, and those that live."""

PAUSE_S = 0.02
"""Between a client's requests: what has to start meanwhile needs the cores, too."""

wait_until = partial(eventually, limit_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(4, id="short", marks=pytest.mark.soak),
        pytest.param(100, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_row_25_restarted_again_and_again(valkey_url: str, tmp_path: Path, model_name: str, times: int) -> None:
    redis = connect(valkey_url)
    over = threading.Event()
    statuses: list[int] = []

    def names() -> int:
        found: Any = redis.xinfo_consumers(keys.work(model_name, LANE), keys.GROUP)
        return len(found)

    def workers() -> int:
        found: Any = redis.zcard(keys.workers(model_name))
        return int(found)

    def ask() -> None:
        while not over.wait(PAUSE_S):
            answer = stack.predict(model_name, b"x", query="?timeout_ms=60000")
            statuses.append(answer.status)

    with Stack(valkey_url, echo_models(tmp_path, model_name), LEASE_MS="1500") as stack:
        stack.start_front_end()
        old = stack.start_consumer(model_name)
        stack.wait(model_name)
        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        most = 0
        for number in range(times):
            fresh = stack.start_consumer(model_name)
            if number % 2:
                old.signal(signal.SIGKILL)
                old.popen.wait()
            else:
                assert old.terminate() == 0
            old = fresh
            most = max(most, names(), workers())
        wait_until(lambda: (names(), workers()) == (1, 1))
        over.set()
        for client in clients:
            client.join()
        pending: Any = redis.xpending(keys.work(model_name, LANE), keys.GROUP)
        assert (redis.xlen(keys.work(model_name, LANE)), pending["pending"]) == (0, 0)
        assert len(redis.keys(keys.worker(model_name, "*"))) == 1
    redis.close()
    assert most <= MOST_NAMES
    assert len(statuses) > times
    assert set(statuses) == {200}

"""Front ends, consumers and the server are killed in the middle of many later requests: each has its result, once."""

from __future__ import annotations

import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.later.many import Sender
from tests.e2e.stack import Stack, echo_models
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

pytestmark = pytest.mark.fault
SENDERS = 4


@pytest.mark.parametrize("requests", [400, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_each_request_ends_once_whatever_dies(tmp_path: Path, model_name: str, requests: int) -> None:
    config = ServerConfig(tmp_path / "redis", free_port(), appendonly="always", maxmemory_mb=256)
    models = echo_models(tmp_path, model_name)
    with EmbeddedServer(config) as server, Stack(server.url, models, LEASE_MS="1000", LANE_LIMIT="20000") as stack:
        port = free_port()
        front_end = stack.serve_on(port)
        consumers = [stack.start_consumer(model_name) for _ in range(2)]
        stack.wait(model_name)
        with ThreadPoolExecutor(SENDERS) as pool:
            sending = [
                pool.submit(send, stack.url, model_name, range(part, requests, SENDERS)) for part in range(SENDERS)
            ]
            eventually(lambda: ended(server, model_name) > requests // 4)
            for process in (front_end, *consumers):
                process.signal(signal.SIGKILL)
            server.kill()
            server.start()
            stack.serve_on(port)
            for _ in range(2):
                stack.start_consumer(model_name)
            for one in sending:
                one.result()
            eventually(lambda: open_ones(server, model_name) == 0, limit_s=50)
        sender = Sender(stack.url)
        wrong = [n for n in range(requests) if sender.result(model_name, f"r-{n}") != list(b"%d" % n)]
        sender.close()
        assert wrong == []
        assert ends(server, model_name) == Counter({f"r-{number}": 1 for number in range(requests)})


def send(url: str, model: str, numbers: range) -> None:
    """Send each until it is taken, as a client does that knows its ids."""
    sender = Sender(url)
    for number in numbers:
        eventually(partial(is_taken, sender, model, number), limit_s=50)
    sender.close()


def is_taken(sender: Sender, model: str, number: int) -> bool:
    """Send one; whether it was taken."""
    return sender.ask(model, f"r-{number}", b"%d" % number) == 202


def ended(server: EmbeddedServer, model: str) -> int:
    """How many have ended."""
    with connect(server.url) as client:
        return int(client.xlen(keys.job_ends(model, keys.DEFAULT_LANE)))


def open_ones(server: EmbeddedServer, model: str) -> int:
    """How many have not."""
    with connect(server.url) as client:
        return max(0, int(client.zcard(keys.open_jobs(model, keys.DEFAULT_LANE))) - 1)


def ends(server: EmbeddedServer, model: str) -> Counter[str]:
    """How often each has ended; all with a result."""
    with connect(server.url) as client:
        found: Any = client.xrange(keys.job_ends(model, keys.DEFAULT_LANE))
    assert {fields[b"code"] for _, fields in found} == {b"ok"}
    return Counter(fields[b"id"].decode() for _, fields in found)

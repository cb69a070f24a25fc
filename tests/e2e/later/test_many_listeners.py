"""Thousands of later requests that wait, and clients that listen to them: the front end holds, within its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import keys
from shared.redis.client import connect
from tests.e2e.later.client import pause, workers_are
from tests.e2e.later.many import Ear, Sender, resident_bytes
from tests.e2e.stack import Stack, echo_models
from tests.helpers import eventually, eventually_async

MOST_BYTES = 150 << 20


@pytest.mark.parametrize(
    ("requests", "listeners"),
    [(400, 100), pytest.param(10_000, 1_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])],
)
def test_listeners_hold_while_requests_wait(
    valkey_url: str, tmp_path: Path, model_name: str, requests: int, listeners: int
) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name), LANE_LIMIT="20000", LEASE_MS="1000") as stack:
        front_end = stack.start_front_end()
        stack.start_consumer(model_name)
        stack.wait(model_name)
        pause(valkey_url, model_name)
        eventually(lambda: workers_are(valkey_url, model_name, "paused"))
        sender = Sender(stack.url)
        assert {sender.ask(model_name, f"r-{number}", b"%d" % number) for number in range(requests)} == {202}
        sender.close()
        heard, most = asyncio.run(
            listen(stack.url, model_name, listeners, front_end.popen.pid, lambda: pause(valkey_url, model_name, "open"))
        )
        with connect(valkey_url) as client:
            eventually(lambda: client.zcard(keys.open_jobs(model_name, keys.DEFAULT_LANE)) == 1)
    print(f"{most / (1 << 20):.0f} MiB")
    assert most < MOST_BYTES
    assert all(one[0] == "queued" and one[-1] == "done" for one in heard)


async def listen(url: str, model: str, count: int, pid: int, resume: Callable[[], None]) -> tuple[list[list[str]], int]:
    """Listen to the last ``count`` of them until all have ended; what each heard, and the front end's most memory."""
    ears = [Ear(url, model, f"r-{number}") for number in range(count)]
    async with asyncio.TaskGroup() as group:
        for one in ears:
            group.create_task(one.listen())
        await eventually_async(lambda: all(one.heard for one in ears))
        most = resident_bytes(pid)
        resume()
    return [one.heard for one in ears], max(most, resident_bytes(pid))

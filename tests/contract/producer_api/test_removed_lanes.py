"""A lane that an operator removes takes its connections with it, as soon as nobody waits there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from producer_api.queue.redis_queue import RedisQueue
from shared import keys
from shared.state import lanes
from shared.wire.messages import Request
from tests.asking import submit
from tests.contract.lanes import RedisLane, card
from tests.contract.producer_api.test_front_end_faults import end_one, run
from tests.helpers import eventually_async

PAID = "paid"


@pytest.fixture
def lane(valkey_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, valkey_url)
    yield made
    made.close()


def test_the_connections_of_a_removed_lane_are_closed_once_nobody_waits_there(lane: RedisLane, valkey_url: str) -> None:
    client, stream, model = lane.client, lane.stream("one"), lane.model
    client.hset(keys.lanes(model), PAID, lanes.encode(10, 1.0))
    stream.heartbeat(card(model), {})

    def waiting() -> int:
        return int(client.xlen(keys.work(model, PAID)))

    def readers() -> int:
        return [one["cmd"] for one in client.client_list()].count("xread")

    async def scenario(queue: RedisQueue) -> None:
        async def ask(request_id: str) -> str:
            request = Request(request_id, 20_000, "application/octet-stream", b"x")
            answer = await submit(queue, model, request, id_is_generated=False, lane=PAID)
            return answer.reply.id

        def is_there() -> bool:
            return PAID in queue.catalogue().models[model].lanes

        asked = [asyncio.create_task(ask(f"r-{number}")) for number in range(2)]
        await eventually_async(lambda: waiting() == 2)
        client.hdel(keys.lanes(model), PAID)
        await eventually_async(lambda: not is_there())
        await asyncio.to_thread(end_one, stream)
        assert readers() == 1
        await asyncio.to_thread(end_one, stream)
        assert await asyncio.gather(*asked) == ["r-0", "r-1"]
        await eventually_async(lambda: readers() == 0)

        client.hset(keys.lanes(model), PAID, lanes.encode(10, 1.0))
        await eventually_async(is_there)
        again = asyncio.create_task(ask("r-2"))
        await eventually_async(lambda: waiting() == 1)
        await asyncio.to_thread(end_one, stream)
        assert await again == "r-2"

    run(valkey_url, scenario)

"""A batch lane in a hurry on real servers: nothing in it waits for gaps, and no other batch lane is read meanwhile."""

from __future__ import annotations

from contextlib import closing

import pytest

from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis.client import connect
from shared.state.lanes import BATCH, kind_field
from tests.contract.lanes import Lane, RedisLane, card


def test_a_lane_in_a_hurry_is_read_alone_until_its_time_is_over(lane: Lane) -> None:
    if not isinstance(lane, RedisLane):
        pytest.skip("the hurry is a key in Redis")
    model, stream = lane.model, lane.stream("one")
    assert isinstance(stream, RedisStream)
    with connect(lane.url) as client, closing(stream):
        made = dict.fromkeys(("nightly", "weekly"), "100,1")
        made |= dict.fromkeys(map(kind_field, ("nightly", "weekly")), BATCH)
        client.hset(keys.lanes(model), mapping=made)
        now_ms = int(client.time()[0]) * 1000

        def beat() -> bool:
            stream.heartbeat(card(model), {"pid": "1"})
            return stream.batch.hurries

        def add() -> None:
            for name in ("nightly", "weekly"):
                client.xadd(keys.work(model, name), {"m": b"x"})

        assert not beat()
        client.zadd(
            keys.hurried(model), {"nightly": now_ms - 1000, "default": now_ms + 60_000, "gone": now_ms + 60_000}
        )
        assert not beat()  # a time that has passed, an ordinary lane, and one that does not exist
        client.zadd(keys.hurried(model), {"nightly": now_ms + 60_000})
        assert beat()
        add()
        assert [one.lane for one in stream.batch.read(10, wait=False)] == ["nightly"]
        client.zadd(keys.hurried(model), {"nightly": now_ms - 1})
        assert not beat()
        assert [one.lane for one in stream.batch.read(10, wait=False)] == ["weekly"]

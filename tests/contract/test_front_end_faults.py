"""What a front end must survive, on a real server, with the test as its consumer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator

import msgpack
import pytest
from prometheus_client import CollectorRegistry

from consumer.stream import Ended, WorkStream
from producer_api.channel import Wait
from producer_api.metrics import queue_metrics
from producer_api.queue import Answer, submit
from producer_api.redis_queue import RedisQueue
from producer_api.waiters import Waiter
from shared import keys
from shared.outcomes import EXPIRED, QUEUE_UNAVAILABLE, RequestError
from shared.wire import Fault, ModelTag, Reply, Request, Tensor, Timing, decode_request, encode_reply
from tests.contract.lanes import RedisLane, card, settings

TAG = ModelTag("m", "1", "fp32")
TIMES = ("queue", "wait", "decode", "run", "batch")


@pytest.fixture
def lane(redis_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, redis_url)
    yield made
    made.close()


def run(url: str, scenario: Callable[[RedisQueue], Awaitable[None]]) -> None:
    async def main() -> None:
        queue = RedisQueue(settings(url), queue_metrics(CollectorRegistry()))
        await queue.start()
        try:
            await scenario(queue)
        finally:
            await queue.close()

    asyncio.run(main())


async def outcome(queue: RedisQueue, lane: RedisLane, request_id: str, ttl_ms: int) -> str:
    request = Request(request_id, ttl_ms, "application/octet-stream", b"x")
    try:
        answer = await submit(queue, lane.model, request, id_is_ours=False)
    except RequestError as error:
        return error.outcome.code
    return "ok" if answer.reply.fault is None else answer.reply.fault.code


def test_the_log_names_request_and_trace_that_redis_refused(
    redis_url: str, lane: RedisLane, caplog: pytest.LogCaptureFixture
) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        lane.client.set(keys.work(lane.model, keys.DEFAULT_LANE), "no stream")
        traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
        request = Request("r-1", 1_000, "application/octet-stream", bytes(32_768), traceparent=traceparent)
        with pytest.raises(RequestError) as caught:
            await submit(queue, lane.model, request, id_is_ours=True)
        assert caught.value.outcome is QUEUE_UNAVAILABLE

    run(redis_url, scenario)
    [line] = [line for line in caplog.records if "refused a request" in line.getMessage()]
    assert (line.__dict__["request_id"], line.__dict__["trace_id"]) == ("r-1", "a" * 32)


def end_one(stream: WorkStream, fault: Fault | None = None) -> None:
    (entry,) = stream.read(1)
    request = decode_request(entry.message or b"")
    outputs = None if fault else (Tensor("o", "UINT8", (1, 1), b"x"),)
    reply = encode_reply(Reply(request.id, TAG, Timing(), outputs=outputs, fault=fault))
    stream.commit([Ended(entry.entry_id, request.id, request.reply_to or "", 0 if fault else 60_000, reply)])


def test_the_end_of_an_earlier_attempt_does_not_end_a_later_one(lane: RedisLane, redis_url: str) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "same", 20) == "unknown_outcome"
        again = asyncio.create_task(outcome(queue, lane, "same", 20_000))
        while lane.length() < 2:  # noqa: ASYNC110 - nothing tells when the second has been admitted
            await asyncio.sleep(0.01)
        await asyncio.to_thread(end_one, stream, Fault(EXPIRED.code, "Too late."))
        await asyncio.to_thread(end_one, stream)
        assert await again == "ok"

    run(redis_url, scenario)


def test_a_connection_closed_while_idle_costs_no_request(lane: RedisLane, redis_url: str) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "first", 20) == "unknown_outcome"
        mine = str(lane.client.client_id())
        idle = [one["id"] for one in lane.client.client_list() if one["cmd"] == "fcall" and one["id"] != mine]
        for number in idle:
            lane.client.client_kill_filter(_id=number)
        await asyncio.sleep(0.05)  # the loop takes notice of the closed connection
        assert await outcome(queue, lane, "second", 20) == "unknown_outcome"

    run(redis_url, scenario)


def test_a_model_is_away_and_not_unknown_after_the_server_lost_its_data(lane: RedisLane, redis_url: str) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        lane.flush()
        while queue.catalogue().models[lane.model].workers:  # noqa: ASYNC110 - the interface offers snapshots only
            await asyncio.sleep(0.01)
        assert await outcome(queue, lane, "one", 20) == "no_worker"

    run(redis_url, scenario)


def test_many_models_are_served_at_once(redis_url: str, model_name: str) -> None:
    lanes = [RedisLane(f"{model_name}-{number}", redis_url) for number in range(60)]
    for lane in lanes:
        lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        codes = await asyncio.gather(*(outcome(queue, lane, "one", 200) for lane in lanes))
        assert set(codes) == {"unknown_outcome"}

    run(redis_url, scenario)
    for lane in lanes:
        lane.close()


def test_a_reply_that_cannot_be_read_fails_its_own_request_only(lane: RedisLane, redis_url: str) -> None:
    """All replies are read by one task, which such a reply must not end."""
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    good = encode_reply(Reply("x", TAG, Timing(), outputs=(Tensor("o", "UINT8", (1, 1), b"x"),)))
    bad = [b"", b"\xc1", msgpack.packb({**msgpack.unpackb(good), "t": dict.fromkeys(TIMES, "soon")}), good]

    async def scenario(queue: RedisQueue) -> None:
        codes = []
        for number, reply in enumerate(bad):
            asked = asyncio.create_task(outcome(queue, lane, f"r{number}", 20_000))
            (entry,) = await asyncio.to_thread(stream.read, 1)
            request = decode_request(entry.message or b"")
            stream.commit([Ended(entry.entry_id, request.id, request.reply_to or "", 60_000, reply)])
            codes.append(await asked)
        assert codes == ["internal", "internal", "internal", "ok"]

    run(redis_url, scenario)


def test_a_request_leaves_no_cycle_behind(lane: RedisLane, redis_url: str) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            with contextlib.suppress(ValueError):  # nothing came
                end_one(stream)

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "first", 20_000) == "ok"
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for number in range(20):
                assert await outcome(queue, lane, f"a{number}", 20_000) == "ok"
            gc.collect()
            assert [one for one in gc.garbage if isinstance(one, (Request, Waiter, Wait, Answer))] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        run(redis_url, scenario)
    finally:
        stop.set()
        consumer.join()


def test_a_queue_that_is_closed_takes_no_more(lane: RedisLane, redis_url: str) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        await queue.close()
        assert await outcome(queue, lane, "late", 1000) == "shutting_down"

    run(redis_url, scenario)

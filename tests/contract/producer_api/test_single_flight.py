"""A client's own id runs once, however often and wherever it is asked for: on a real server, with two front ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumer.queue.interface import Completion, WorkStream
from producer_api.metrics import queue_metrics
from producer_api.queue.interface import Answer, Standing
from producer_api.queue.pending import PendingReply
from producer_api.queue.redis_queue import RedisQueue
from shared import keys, limits
from shared.redis import functions
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import Fault, ModelTag, Reply, Request, Tensor, Timing, decode_request, encode_reply
from shared.wire.outcomes import EXPIRED, LANE_FULL, OVERLOADED, Outcome, RequestError
from tests.asking import submit
from tests.contract.lanes import LANE, RedisLane, card, settings
from tests.embedded import EmbeddedServer
from tests.helpers import eventually_async

TAG = ModelTag("m", "1", "fp32")
CROWD = 50


@pytest.fixture
def lane(redis_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, redis_url)
    made.stream("one").heartbeat(card(made.model), {})
    yield made
    made.close()


def request(request_id: str, body: bytes = b"x", ttl_ms: int = 20_000) -> Request:
    return Request(request_id, ttl_ms, "application/octet-stream", body)


def echo_one(stream: WorkStream, fault: Fault | None = None) -> None:
    """Answer one entry with its own body."""
    (entry,) = stream.read(1)
    asked = decode_request(entry.message or b"")
    outputs = None if fault else (Tensor("o", "UINT8", (1, 1), asked.body or b""),)
    reply = encode_reply(Reply(asked.id, TAG, Timing(), outputs=outputs, fault=fault))
    stream.commit([Completion(entry.entry_id, asked.id, asked.reply_to or "", 0 if fault else 60_000, reply)])


def ends(results: Sequence[Answer | BaseException]) -> list[Any]:
    """The data of answers, the codes of errors."""
    found: list[Any] = []
    for result in results:
        if isinstance(result, Answer):
            found.append(result.reply.outputs[0].data if result.reply.outputs else result.reply.fault)
        else:
            assert isinstance(result, RequestError)
            found.append(result.outcome.code)
    return found


@contextlib.asynccontextmanager
async def front_ends(url: str) -> Any:
    queues = [RedisQueue(settings(url), queue_metrics(CollectorRegistry())) for _ in range(2)]
    for queue in queues:
        await queue.start()
    try:
        yield queues
    finally:
        for queue in queues:
            await queue.close()


@pytest.mark.parametrize("size", [1, limits.LUA_LIMIT_BYTES + 1], ids=["small", "large"])
def test_a_crowd_with_one_id_is_one_entry_and_has_one_answer(lane: RedisLane, redis_url: str, size: int) -> None:
    async def main() -> None:
        async with front_ends(redis_url) as queues:
            waits = [
                asyncio.create_task(
                    submit(queues[number % 2], lane.model, request("crowd", b"x" * size), id_is_generated=False)
                )
                for number in range(CROWD)
            ]
            await eventually_async(lane.length)
            await asyncio.to_thread(echo_one, lane.stream("one"))
            assert ends(await asyncio.gather(*waits)) == [b"x" * size] * CROWD
            assert lane.length() == 0
            later = await submit(queues[0], lane.model, request("crowd", b"y"), id_is_generated=False)
            assert ends([later]) == [b"x" * size]
            assert lane.length() == 0

    asyncio.run(main())


def test_large_requests_with_ids_of_their_own_do_not_have_small_ones_refused(tmp_path: Path) -> None:
    """All in one call are more than the server has memory for, and it refuses the call with everything in it."""
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 32)) as server:
        lane = RedisLane("crowded", server.url)
        lane.stream("one").heartbeat(card(lane.model), {})

        async def main() -> None:
            async with front_ends(server.url) as (one, _):
                bodies = {f"large-{number}": bytes(4_000_000) for number in range(10)}
                waits = [
                    asyncio.create_task(submit(one, lane.model, request(name, body), id_is_generated=False))
                    for name, body in bodies.items()
                ]
                small = asyncio.create_task(submit(one, lane.model, request("small"), id_is_generated=True))
                while not lane.length():
                    await asyncio.sleep(0.01)
                    assert not small.done(), small.exception()
                for wait in (*waits, small):
                    wait.cancel()
                await asyncio.gather(*waits, small, return_exceptions=True)

        asyncio.run(main())
        lane.close()


def test_another_body_under_the_same_key_is_refused_while_it_runs_and_afterwards(
    lane: RedisLane, redis_url: str
) -> None:
    async def main() -> None:
        async with front_ends(redis_url) as (one, other):
            first = asyncio.create_task(
                submit(one, lane.model, request("key-1"), id_is_generated=False, fingerprint="a")
            )
            await eventually_async(lane.length)

            async def refused() -> str:
                with pytest.raises(RequestError) as caught:
                    await submit(other, lane.model, request("key-1", b"y"), id_is_generated=False, fingerprint="b")
                return caught.value.outcome.code

            assert await refused() == "key_reused"
            await asyncio.to_thread(echo_one, lane.stream("one"))
            assert ends([await first]) == [b"x"]
            assert await refused() == "key_reused"
            again = await submit(other, lane.model, request("key-1"), id_is_generated=False, fingerprint="a")
            assert ends([again]) == [b"x"]

    asyncio.run(main())


def test_what_expired_may_be_asked_for_again(lane: RedisLane, redis_url: str) -> None:
    async def main() -> None:
        async with front_ends(redis_url) as (one, other):
            first = asyncio.create_task(submit(one, lane.model, request("again"), id_is_generated=False))
            await eventually_async(lane.length)
            await asyncio.to_thread(echo_one, lane.stream("one"), Fault(EXPIRED.code, "Too late."))
            assert (await first).reply.fault == Fault(EXPIRED.code, "Too late.")
            second = asyncio.create_task(submit(other, lane.model, request("again"), id_is_generated=False))
            await eventually_async(lane.length)
            await asyncio.to_thread(echo_one, lane.stream("one"))
            assert ends([await second]) == [b"x"]

    asyncio.run(main())


@pytest.mark.parametrize("outcome", [OVERLOADED, LANE_FULL, EXPIRED], ids=lambda outcome: outcome.code)
def test_who_joined_elsewhere_hears_of_an_end_that_is_not_stored(
    lane: RedisLane, redis_url: str, outcome: Outcome
) -> None:
    """The hint goes to the front end that admitted it, whose client may be gone: others waited their whole time."""

    async def main() -> None:
        async with front_ends(redis_url) as (one, other):
            first = asyncio.create_task(submit(one, lane.model, request("same"), id_is_generated=False))
            await eventually_async(lane.length)
            second = asyncio.create_task(submit(other, lane.model, request("same"), id_is_generated=False))
            await eventually_async(lambda: [wait for wait in waits(other) if wait.entry_id])
            stream = lane.stream("one")
            await asyncio.to_thread(echo_one, stream, Fault(outcome.code, "No."))
            assert ends([await first]) == [Fault(outcome.code, "No.")]
            with pytest.raises(RequestError) as refused:
                await second
            assert refused.value.outcome is outcome
            assert lane.length() == 0
            assert stream.terminations() == []  # consumers need not remember it

    asyncio.run(main())


def waits(queue: RedisQueue) -> list[PendingReply]:
    """What waits at a front end."""
    return [one for channel in queue._channels.values() for one in channel._pending_replies.all()]


def test_ends_that_are_not_stored_are_told_of_clients_own_ids_only(lane: RedisLane, redis_url: str) -> None:
    async def main() -> None:
        async with front_ends(redis_url) as (one, _):
            wait = asyncio.create_task(submit(one, lane.model, request("made-up"), id_is_generated=True))
            await eventually_async(lane.length)
            await asyncio.to_thread(echo_one, lane.stream("one"), Fault(OVERLOADED.code, "No."))
            assert ends([await wait]) == [Fault(OVERLOADED.code, "No.")]
            assert lane.client.xlen(keys.terminations(lane.model, LANE)) == 0

    asyncio.run(main())


def test_what_is_remembered_of_an_id_ends(lane: RedisLane, redis_url: str) -> None:
    place = keys.flight(lane.model, LANE, "gone")

    async def main() -> None:
        async with front_ends(redis_url) as (one, _):
            for ttl_ms in (20, 200, 2_000):  # on a busy machine its time may be over before it is sent
                with pytest.raises(RequestError):
                    await submit(one, lane.model, request("gone", ttl_ms=ttl_ms), id_is_generated=False)
                if lane.client.exists(place):
                    break

    asyncio.run(main())
    remaining_ms: Any = lane.client.pttl(place)
    assert 0 < remaining_ms <= settings().flight_expiry_ms(2_000)


@pytest.mark.parametrize("check", ["2", "1:", "1:5:5", "1:5:0:", "1:x:5:", "1:5:5:no good", ""])
def test_a_check_that_is_none_is_refused_and_strands_nobody(lane: RedisLane, check: str) -> None:
    answer: Any = lane.client.fcall(
        functions.ADMIT, 1, keys.work(lane.model, LANE), 100, "", "", 0, 2, "a", check, b"m", "b", "0", b"m"
    )
    assert answer[0] == 1
    assert answer[1] == b"error malformed check"
    assert b"-" in answer[2]


def test_cancelling_ends_the_waits_on_every_front_end(lane: RedisLane, redis_url: str) -> None:
    async def main() -> None:
        async with front_ends(redis_url) as queues:
            waits = [
                asyncio.create_task(submit(queues[number % 2], lane.model, request("crowd"), id_is_generated=False))
                for number in range(CROWD)
            ]
            stood: list[Standing] = []
            while not all(wait.done() for wait in waits):  # the last of the crowd may come after a cancellation
                stood.append(await queues[1].cancel(lane.model, "crowd"))
                await asyncio.sleep(0.01)
            assert Standing.QUEUED in stood
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert {cancelled(result) for result in results} == {"cancelled"}
            assert lane.length() == 0

    asyncio.run(main())


def cancelled(result: Answer | BaseException) -> str:
    """The code a request ended with."""
    (end,) = ends([result])
    return end.code if isinstance(end, Fault) else str(end)

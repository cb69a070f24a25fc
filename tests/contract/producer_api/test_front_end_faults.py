"""What a front end must survive, on a real server, with the test as its consumer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgpack
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from consumer.queue.interface import Completion, WorkStream
from producer_api.metrics import queue_metrics
from producer_api.queue.admitter import Admitter
from producer_api.queue.channel import Wait
from producer_api.queue.interface import Answer, Standing
from producer_api.queue.lookup import Lookup
from producer_api.queue.pending import PendingReply
from producer_api.queue.redis_queue import RedisQueue
from producer_api.queue.reply_reader import ReplyReader
from producer_api.routes.service import readiness
from shared import keys
from shared.redis import library
from shared.redis.client import connect_async
from shared.settings import Settings
from shared.state.cards import BatchSettings
from shared.state.desired_state import Serving
from shared.wire.messages import Fault, ModelTag, Reply, Request, Tensor, Timing, decode_request, encode_reply
from shared.wire.outcomes import EXPIRED, QUEUE_UNAVAILABLE, WAIT_TOO_LONG, Outcome, RequestError
from tests.asking import begin, submit
from tests.contract.lanes import RedisLane, card, settings
from tests.helpers import eventually_async

TAG = ModelTag("m", "1", "fp32")
TIMES = ("queue", "wait", "decode", "run", "batch")


@pytest.fixture
def lane(redis_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, redis_url)
    yield made
    made.close()


def run(
    url: str, scenario: Callable[[RedisQueue], Awaitable[None]], make: Callable[[str], Settings] = settings
) -> None:
    async def main() -> None:
        queue = RedisQueue(make(url), queue_metrics(CollectorRegistry()))
        await queue.start()
        try:
            await scenario(queue)
        finally:
            await queue.close()

    asyncio.run(main())


async def outcome(queue: RedisQueue, lane: RedisLane, request_id: str, ttl_ms: int) -> str:
    request = Request(request_id, ttl_ms, "application/octet-stream", b"x")
    try:
        answer = await submit(queue, lane.model, request, id_is_generated=False)
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
            await submit(queue, lane.model, request, id_is_generated=True)
        assert caught.value.outcome is QUEUE_UNAVAILABLE

    run(redis_url, scenario)
    [line] = [line for line in caplog.records if "refused a request" in line.getMessage()]
    assert (line.__dict__["request_id"], line.__dict__["trace_id"]) == ("r-1", "a" * 32)


def end_one(stream: WorkStream, fault: Fault | None = None) -> None:
    (entry,) = stream.read(1)
    request = decode_request(entry.message or b"")
    outputs = None if fault else (Tensor("o", "UINT8", (1, 1), b"x"),)
    reply = encode_reply(Reply(request.id, TAG, Timing(), outputs=outputs, fault=fault))
    expiry_ms = 0 if fault else 60_000
    stream.commit([Completion(entry.entry_id, request.id, request.reply_to or "", expiry_ms, reply, entry.lane)])


def test_the_end_of_an_earlier_attempt_does_not_end_a_later_one(lane: RedisLane, redis_url: str) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "same", 20) == "unknown_outcome"
        again = asyncio.create_task(outcome(queue, lane, "same", 20_000))
        await eventually_async(lambda: lane.length() >= 2)
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
        await eventually_async(lambda: not queue.catalogue().models[lane.model].workers)
        assert await outcome(queue, lane, "one", 20) == "no_worker"

    run(redis_url, scenario)


COSTLY = BatchSettings(8, 5.0, "window", 8, 0.0, 1000.0)
"""A second a request, eight at once."""


def test_a_lane_that_emptied_by_other_means_lets_requests_in_again(lane: RedisLane, redis_url: str) -> None:
    """Thousands expire unseen or are trimmed away: by the rate that was learned, they would be there for hours."""
    lane.stream("one").heartbeat(msgspec.structs.replace(card(lane.model), batch=COSTLY), {})
    for _ in range(2000):
        lane.add(b"somebody's request")

    async def scenario(queue: RedisQueue) -> None:
        nobody = Request("one", 5000, "a/b", b"x")

        def refusal() -> Outcome | None:
            try:
                begin(queue, lane.model, nobody, id_is_generated=True, done=lambda result: None)
            except RequestError as error:
                return error.outcome
            return None

        assert refusal() is None  # nothing is known of the lane yet
        assert await eventually_async(refusal) is WAIT_TOO_LONG
        lane.client.xtrim(lane.work, maxlen=0)
        await eventually_async(lambda: refusal() is None)

    run(redis_url, scenario)


def test_impatient_clients_and_bad_input_do_not_make_the_predicted_wait_shorter(
    lane: RedisLane, redis_url: str
) -> None:
    lane.stream("one").heartbeat(msgspec.structs.replace(card(lane.model), batch=COSTLY), {})
    for _ in range(5):
        lane.add(b"somebody's request")

    async def scenario(queue: RedisQueue) -> None:
        await outcome(queue, lane, "first", 10)
        backlog = queue._channels[lane.model, keys.DEFAULT_LANE].backlog
        before = backlog.slowness = 10.0
        for number in range(20):
            request = Request(f"impatient-{number}", 1, "application/octet-stream", b"x")
            with pytest.raises(RequestError):
                await submit(queue, lane.model, request, id_is_generated=True)
            lane.client.xtrim(lane.work, maxlen=5)
        assert backlog.slowness == before

    run(redis_url, scenario)


def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back(lane: RedisLane, redis_url: str) -> None:
    """Nine in the lane: that will do for a minute, but not for five seconds."""
    lane.stream("one").heartbeat(msgspec.structs.replace(card(lane.model), batch=COSTLY), {})
    for _ in range(9):
        lane.add(b"somebody's request")

    async def scenario(queue: RedisQueue) -> None:
        patient = [asyncio.create_task(outcome(queue, lane, "first", 60_000))]
        place = lane.model, keys.DEFAULT_LANE
        # The lane has it sooner than the front end knows.
        await eventually_async(lambda: place in queue._channels and queue._channels[place].backlog.length >= 10)
        patient.append(asyncio.create_task(outcome(queue, lane, "second", 60_000)))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as caught:
            begin(
                queue, lane.model, Request("third", 5000, "a/b", b"x"), id_is_generated=True, done=lambda result: None
            )
        assert caught.value.outcome is WAIT_TOO_LONG
        assert caught.value.retry_after_s in (6, 7)
        await eventually_async(lambda: lane.length() >= 11)
        await queue.close()
        assert await asyncio.gather(*patient) == ["shutting_down", "shutting_down"]

    run(redis_url, scenario)


def test_while_paused_nobody_is_refused_for_a_wait_that_nobody_can_predict(lane: RedisLane, redis_url: str) -> None:
    """The same queue as above, which the model's pause has made."""
    costly = BatchSettings(8, 5.0, "window", 8, 0.0, 1000.0)
    lane.stream("one").heartbeat(msgspec.structs.replace(card(lane.model), batch=costly), {})
    for _ in range(9):
        lane.add(b"somebody's request")
    lane.serve_as(Serving.PAUSED)

    async def scenario(queue: RedisQueue) -> None:
        assert [await outcome(queue, lane, f"r{number}", 50) for number in range(4)] == ["unknown_outcome"] * 4
        lane.serve_as(Serving.DRAINING)
        await eventually_async(lambda: not queue.catalogue().models[lane.model].is_open)
        assert await outcome(queue, lane, "r4", 50) == "draining"
        lane.serve_as(Serving.OPEN)
        await eventually_async(lambda: queue.catalogue().models[lane.model].is_open)
        assert await outcome(queue, lane, "r5", 5000) == "wait_too_long"  # now it can be told

    run(redis_url, scenario)


@pytest.mark.parametrize("is_known", [True, False], ids=["admitted", "on its way"])
def test_a_request_that_nobody_can_ask_for_is_taken_out_of_the_lane(
    lane: RedisLane, redis_url: str, is_known: bool
) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        ours = [Request(f"ours-{number}", 20_000, "a/b", b"x") for number in range(10)]
        ends = [begin(queue, lane.model, one, id_is_generated=True, done=lambda end: None) for one in ours]
        own = Request("own", 20_000, "a/b", b"x")
        ends.append(begin(queue, lane.model, own, id_is_generated=False, done=lambda end: None))
        await eventually_async(lambda: not is_known or lane.length() >= 11)
        if is_known:  # the front end knows, too, once a later call has been answered
            assert await outcome(queue, lane, "later", 20) == "unknown_outcome"
        for give_up in ends:
            give_up()
            give_up()  # harmless
        left = 2 if is_known else 1
        await eventually_async(lambda: is_known or lane.length())
        await eventually_async(lambda: lane.length() <= left)
        assert lane.length() == left

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
            stream.commit([Completion(entry.entry_id, request.id, request.reply_to or "", 60_000, reply)])
            codes.append(await asked)
        assert codes == ["internal", "internal", "internal", "ok"]

    run(redis_url, scenario)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), asyncio.CancelledError()])
@pytest.mark.parametrize("method", ["_take_hints", "_sweep"])
def test_whatever_ends_reading_replies_nobody_waits_in_vain(
    lane: RedisLane, redis_url: str, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException
) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    broken = threading.Event()
    takes = getattr(ReplyReader, method)

    def breaks(reader: ReplyReader, told: Any) -> Any:
        if not broken.is_set() and told:
            broken.set()
            raise error
        return takes(reader, told)

    monkeypatch.setattr(ReplyReader, method, breaks)

    async def scenario(queue: RedisQueue) -> None:
        for number in range(2):
            asked = asyncio.create_task(outcome(queue, lane, f"r{number}", 20_000))
            await eventually_async(lane.length)
            if method == "_sweep":
                await eventually_async(broken.is_set)  # what is overdue is looked for by itself
            await asyncio.to_thread(end_one, stream)
            assert await asked == "ok"
        assert broken.is_set()

    run(redis_url, scenario)


def test_whatever_ends_admitting_each_request_has_its_end(
    lane: RedisLane, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})

    async def breaks(admitter: Admitter, call: Any, adds: Any) -> Any:
        raise ZeroDivisionError("a bug")

    async def scenario(queue: RedisQueue) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Admitter, "_send", breaks)
            codes = await asyncio.gather(*(outcome(queue, lane, f"bad{number}", 20_000) for number in range(3)))
            assert codes == ["queue_unavailable"] * 3
        asked = asyncio.create_task(outcome(queue, lane, "good", 20_000))
        await asyncio.to_thread(end_one, stream)
        assert await asked == "ok"

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
            assert [one for one in gc.garbage if isinstance(one, (Request, PendingReply, Wait, Answer))] == []
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


def test_a_server_that_is_nearly_full_gets_no_more_requests(redis_url: str, lane: RedisLane) -> None:
    """It could still store some, but what it has room for are the answers to what it holds."""
    lane.stream("one").heartbeat(card(lane.model), {})
    allowed: Any = lane.client.config_get("maxmemory")

    async def scenario(queue: RedisQueue) -> None:
        while not queue.catalogue().memory_full:
            used = lane.client.info("memory")["used_memory"]
            lane.client.config_set("maxmemory", int(used * 1.03))
            await asyncio.sleep(0.05)
        assert await outcome(queue, lane, "one", 1_000) == "queue_out_of_memory"
        assert "Redis is nearly out of memory." in readiness(queue.catalogue()).reasons
        lane.client.config_set("maxmemory", allowed["maxmemory"])
        await eventually_async(lambda: not queue.catalogue().memory_full)

    try:
        run(redis_url, scenario)
    finally:
        lane.client.config_set("maxmemory", allowed["maxmemory"])


def test_what_is_given_up_is_taken_away_even_from_its_consumer(lane: RedisLane, redis_url: str) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        asked = [
            asyncio.create_task(
                submit(
                    queue,
                    lane.model,
                    Request(name, 20_000, "application/octet-stream", b"x"),
                    id_is_generated=name != "own",
                )
            )
            for name in ("claimed", "own", "queued")
        ]
        await eventually_async(lambda: lane.length() >= 3)
        (claimed,) = await asyncio.to_thread(stream.read, 1)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await eventually_async(lambda: lane.length() <= 1)
        assert await asyncio.to_thread(stream.terminations) == [claimed.claim]
        (left,) = await asyncio.to_thread(stream.read, 5)
        assert decode_request(left.message or b"").id == "own"

    run(redis_url, scenario)


def test_what_timed_out_while_redis_was_silent_is_not_admitted_any_more(lane: RedisLane, redis_url: str) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "opens-the-connection", 20) == "unknown_outcome"
        lane.client.client_pause(500, all=True)
        sent = asyncio.create_task(outcome(queue, lane, "sent", 100))
        await asyncio.sleep(0.02)  # it is on its way; the next ones wait for the answer to it
        waiting = [asyncio.create_task(outcome(queue, lane, f"waits-{number}", 100)) for number in range(3)]
        assert await asyncio.gather(sent, *waiting) == ["unknown_outcome"] * 4
        assert await outcome(queue, lane, "afterwards", 1000) == "unknown_outcome"

    run(redis_url, scenario)
    entries: Any = lane.client.xrange(lane.work)
    ids = [decode_request(fields[b"m"]).id for _, fields in entries]
    # On a busy machine the time of the one that is to be on its way may be up before it is sent.
    assert [one for one in ids if one != "sent"] == ["opens-the-connection", "afterwards"]


def test_who_asks_for_many_large_answers_by_id_keeps_no_other_lane_waiting(lane: RedisLane, redis_url: str) -> None:
    reply = encode_reply(Reply("mine", ModelTag(lane.model, "1", "fp32"), Timing(), outputs=[
        Tensor("x", "UINT8", (1, 8 << 20), bytes(8 << 20))
    ]))  # fmt: skip
    for name in ("loud", "quiet"):
        lane.client.rpush(keys.reply(lane.model, name, "mine"), reply)
    lane.client.function_load(library.source(), replace=True)
    order: list[str] = []

    async def main() -> None:
        client = connect_async(redis_url, 30.0)
        by_id = Lookup(client, 60.0)

        async def ask(name: str) -> None:
            assert isinstance(await by_id.find(lane.model, name, "mine"), Reply)
            order.append(name)

        try:
            await asyncio.gather(*(ask("loud") for _ in range(20)), ask("quiet"))
        finally:
            await by_id.close()
            await client.aclose()

    asyncio.run(main())
    assert order.index("quiet") < 3


def test_asking_by_id_survives_what_it_finds(lane: RedisLane, redis_url: str) -> None:
    lane.stream("one").heartbeat(card(lane.model), {})
    lane.client.rpush(keys.reply(lane.model, keys.DEFAULT_LANE, "garbled"), b"\xc1")
    lane.client.rpush(keys.flight(lane.model, keys.DEFAULT_LANE, "odd"), b"no string")

    async def scenario(queue: RedisQueue) -> None:
        async def code(step: Callable[..., Awaitable[object]], request_id: str) -> str:
            with pytest.raises(RequestError) as caught:
                await step(lane.model, request_id)
            return caught.value.outcome.code

        assert await code(queue.find, "garbled") == "internal"
        assert [await code(step, "odd") for step in (queue.find, queue.cancel)] == ["internal"] * 2
        lane.client.function_flush()
        assert await queue.find(lane.model, "nothing") is Standing.UNKNOWN
        lane.client.function_flush()
        assert await queue.cancel(lane.model, "nothing") is Standing.UNKNOWN
        lane.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        found = [await code_or(queue.find(lane.model, "nothing")) for _ in range(2)]
        assert found[0] in ("queue_unavailable", Standing.UNKNOWN)
        assert found[1] is Standing.UNKNOWN

    async def code_or(step: Awaitable[object]) -> object:
        try:
            return await step
        except RequestError as error:
            return error.outcome.code

    run(redis_url, scenario)


SILENT_MS = 2500


class Impatient(Settings):
    """A silent server counts as lost after 0.4 to 0.6 s."""

    @property
    def socket_timeout_s(self) -> float:
        return 0.4


def impatient(url: str) -> Settings:
    return Impatient.from_env({"HEADRACE_REDIS_URL": url, "HEADRACE_LEASE_MS": "1500"})


def test_asking_by_id_of_a_silent_server_takes_no_turns(lane: RedisLane, redis_url: str) -> None:
    """One after the other they would wait a whole timeout each: the last ones would find the server back."""
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        async def code(step: Awaitable[object]) -> object:
            try:
                return await step
            except RequestError as error:
                return error.outcome.code

        assert await queue.find(lane.model, "nothing") is Standing.UNKNOWN
        lane.client.client_pause(SILENT_MS, all=True)
        steps = [step(lane.model, f"r{number}") for number in range(8) for step in (queue.find, queue.cancel)]
        assert await asyncio.gather(*map(code, steps)) == ["queue_unavailable"] * 16

    run(redis_url, scenario, impatient)
    assert lane.client.ping()  # the next test finds it talking


def test_large_requests_with_an_id_are_refused_too_when_the_server_falls_silent(
    lane: RedisLane, redis_url: str
) -> None:
    """They go out a few at a time: one call after the other would wait a whole timeout each."""
    lane.stream("one").heartbeat(card(lane.model), {})

    async def scenario(queue: RedisQueue) -> None:
        assert await outcome(queue, lane, "opens-the-connection", 20) == "unknown_outcome"
        lane.client.client_pause(SILENT_MS, all=True)
        requests = [Request(f"r{number}", 8000, "application/octet-stream", bytes(150_000)) for number in range(60)]
        ends = await asyncio.gather(
            *(submit(queue, lane.model, one, id_is_generated=False) for one in requests), return_exceptions=True
        )
        errors = [end for end in ends if isinstance(end, RequestError)]
        assert [one.outcome.code for one in errors] == ["queue_unavailable"] * 60
        never_sent = {one.request_id for one in errors if "was not admitted" in one.message}
        assert len(never_sent) > 40
        await asyncio.to_thread(lane.client.ping)  # it talks again
        entered: Any = lane.client.xrange(lane.work)
        assert never_sent.isdisjoint(decode_request(fields[b"m"]).id for _, fields in entered)

    run(redis_url, scenario, impatient)

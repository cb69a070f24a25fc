"""What a front end may rely on, held over the queue in memory and the real one with a real consumer behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

import pytest
from prometheus_client import CollectorRegistry

from consumer.config import ConsumerConfig, worker_name
from consumer.metrics import ConsumerMetrics
from consumer.models.base import Result
from consumer.models.echo import Echo
from consumer.queue.redis_stream import RedisStream
from consumer.worker import Worker
from producer_api.metrics import queue_metrics
from producer_api.queue.interface import Answer, Queue, Standing
from producer_api.queue.redis_queue import RedisQueue
from shared import keys
from shared.model_config import ModelConfig
from shared.redis import functions
from shared.redis.client import connect
from shared.settings import Settings
from shared.state import lanes
from shared.wire.messages import Request
from shared.wire.outcomes import RequestError
from tests.asking import submit
from tests.fakes import ECHO, InMemoryQueue, NoBoard, echo
from tests.helpers import eventually_async

LANE_LIMIT = 8
POISON = b"poison"

Scenario = Callable[[Queue], Awaitable[None]]


class Bench(Protocol):
    """A queue with one echoing model that can be held back."""

    def run(self, scenario: Scenario) -> None:
        """Run a scenario on a started queue, and close it."""

    def hold(self) -> None:
        """Let no inference end."""

    def release(self) -> None:
        """Go on."""

    def create_lane(self, lane: str, limit: int, limit_bytes: int | None = None) -> None:
        """Give the model another lane."""


def _echo_or_fail(request: Request) -> Result:
    if request.body == POISON:
        raise ValueError("this input is poison")
    return echo(request)


class MemoryBench:
    def __init__(self, model: str) -> None:
        self._model = model

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            self._queue = InMemoryQueue(lane_limit=LANE_LIMIT)
            self._queue.serve(self._model, ECHO, _echo_or_fail)
            await self._queue.start()
            await scenario(self._queue)
            await self._queue.close()

        asyncio.run(main())

    def hold(self) -> None:
        self._queue.hold()

    def release(self) -> None:
        self._queue.release()

    def create_lane(self, lane: str, limit: int, limit_bytes: int | None = None) -> None:
        self._queue.create_lane(self._model, lane, limit, limit_bytes)


class HeldEcho(Echo):
    """Echoes when it may."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        self._gate.wait()
        if POISON in rows:
            raise ValueError("this input is poison")
        return rows


class RedisBench:
    def __init__(self, model: str, url: str) -> None:
        self._model = model
        # A short lease shortens every wait that is scaled by it, such as the last read before the end.
        environment = {"HEADRACE_REDIS_URL": url, "HEADRACE_LANE_LIMIT": str(LANE_LIMIT), "HEADRACE_LEASE_MS": "1500"}
        self._settings = Settings.from_env(environment)
        self._gate = threading.Event()
        self._gate.set()
        name = worker_name()
        config = ConsumerConfig(
            model, ModelConfig(family="echo", window_ms=0), self._settings, name, "fp32", 4, 0, "window", 0
        )
        metrics = ConsumerMetrics(CollectorRegistry(), model)
        self._stream = RedisStream(self._settings, model, name)
        self._worker = Worker(config, lambda: HeldEcho(self._gate), self._stream, metrics, None, NoBoard(), frozenset())
        self._thread = threading.Thread(target=self._worker.run)
        self._thread.start()

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            queue = RedisQueue(self._settings, queue_metrics(CollectorRegistry()))
            await queue.start()
            await eventually_async(lambda: (state := queue.catalogue().models.get(self._model)) and state.workers)
            await scenario(queue)
            await queue.close()

        asyncio.run(main())

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def create_lane(self, lane: str, limit: int, limit_bytes: int | None = None) -> None:
        with connect(self._settings.redis_address) as client:
            client.hset(keys.lanes(self._model), lane, lanes.encode(limit, 1.0))
            if limit_bytes is not None:
                client.hset(keys.lanes(self._model), lanes.bytes_field(lane), lanes.encode_bytes(limit_bytes))
            client.execute_command(*functions.lanes(keys.work(self._model, lane)))

    def close(self) -> None:
        self._gate.set()
        self._worker.stop()
        self._thread.join()
        self._stream.close()


@pytest.fixture(params=["memory", "valkey", "redis7"])
def bench(request: pytest.FixtureRequest, model_name: str) -> Iterator[Bench]:
    """Each kind of queue in turn."""
    if request.param == "memory":
        yield MemoryBench(model_name)
        return
    real = RedisBench(model_name, request.getfixturevalue(f"{request.param}_url"))
    yield real
    real.close()


def request(request_id: str, body: bytes = b"hello", ttl_ms: int = 20_000) -> Request:
    return Request(request_id, ttl_ms, "application/octet-stream", body)


def output(answer: Answer) -> bytes:
    assert answer.reply.outputs is not None, answer.reply.fault
    return answer.reply.outputs[0].data


def code(result: Answer | BaseException) -> str:
    """How a request ended: ``ok``, or the code of its error."""
    if isinstance(result, Answer):
        return "ok"
    assert isinstance(result, RequestError), result
    return result.outcome.code


def test_a_request_is_answered(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        answer = await submit(queue, model_name, request("one"), id_is_generated=True)
        assert (answer.reply.id, output(answer)) == ("one", b"hello")

    bench.run(scenario)


def test_everyone_gets_their_own_answer(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        for start in range(0, 80, LANE_LIMIT):
            ids = [f"r{index}" for index in range(start, start + LANE_LIMIT)]
            answers = await asyncio.gather(
                *(submit(queue, model_name, request(name, name.encode()), id_is_generated=True) for name in ids)
            )
            assert [(answer.reply.id, output(answer)) for answer in answers] == [(name, name.encode()) for name in ids]

    bench.run(scenario)


def test_a_clients_own_id_has_one_answer(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        first = await submit(queue, model_name, request("mine", b"first"), id_is_generated=False)
        second = await submit(queue, model_name, request("mine", b"second"), id_is_generated=False)
        assert output(first) == output(second) == b"first"

    bench.run(scenario)


def test_the_same_id_at_once_has_one_answer(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bodies = [b"%d" % index for index in range(LANE_LIMIT)]
        answers = await asyncio.gather(
            *(submit(queue, model_name, request("crowd", body), id_is_generated=False) for body in bodies)
        )
        assert len({output(answer) for answer in answers}) == 1

    bench.run(scenario)


def test_a_full_lane_refuses(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bench.hold()
        tasks = [
            asyncio.create_task(submit(queue, model_name, request(f"r{index}"), id_is_generated=True))
            for index in range(2 * LANE_LIMIT)
        ]
        while sum(task.done() for task in tasks) < LANE_LIMIT:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        bench.release()
        codes = [code(result) for result in await asyncio.gather(*tasks, return_exceptions=True)]
        assert sorted(codes) == ["lane_full"] * LANE_LIMIT + ["ok"] * LANE_LIMIT

    bench.run(scenario)


def test_a_wait_ends_at_its_deadline_and_names_the_id(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bench.hold()
        begun_s = time.monotonic()
        with pytest.raises(RequestError) as caught:
            await submit(queue, model_name, request("late", ttl_ms=50), id_is_generated=False)
        assert time.monotonic() - begun_s >= 0.05
        assert (caught.value.outcome.code, caught.value.request_id) == ("unknown_outcome", "late")
        bench.release()

    bench.run(scenario)


def test_an_unknown_model_is_refused(bench: Bench) -> None:
    async def scenario(queue: Queue) -> None:
        with pytest.raises(RequestError) as caught:
            await submit(queue, "nothing", request("one"), id_is_generated=True)
        assert caught.value.outcome.code == "unknown_model"

    bench.run(scenario)


def test_an_input_that_makes_the_model_fail_is_answered_with_an_error(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bodies = [b"fine", POISON, b"fine too"]
        answers = await asyncio.gather(
            *(
                submit(queue, model_name, request(f"r{index}", body), id_is_generated=True)
                for index, body in enumerate(bodies)
            )
        )
        assert [output(answer) for answer in (answers[0], answers[2])] == [b"fine", b"fine too"]
        fault = answers[1].reply.fault
        assert fault is not None
        assert fault.code == "model_error"

    bench.run(scenario)


def test_closing_ends_the_waits(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bench.hold()
        task = asyncio.create_task(submit(queue, model_name, request("one"), id_is_generated=True))
        await asyncio.sleep(0)
        await queue.close()
        [result] = await asyncio.gather(task, return_exceptions=True)
        assert code(result) == "shutting_down"
        bench.release()

    bench.run(scenario)


async def admitted(queue: Queue, model: str) -> Any:
    """Wait until the request ``mine`` is known; where it stands."""

    async def stands() -> Any:
        return None if (found := await queue.find(model, "mine")) is Standing.UNKNOWN else found

    return await eventually_async(stands)


async def _lane_is_known(queue: Queue, model: str, lane: str) -> None:
    await eventually_async(lambda: lane in queue.catalogue().models[model].lanes)


def test_lanes_have_ids_and_limits_of_their_own(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        bench.create_lane("gold", 2)
        await _lane_is_known(queue, model_name, "gold")
        first = await submit(queue, model_name, request("same", b"first"), id_is_generated=False)
        second = await submit(queue, model_name, request("same", b"second"), id_is_generated=False, lane="gold")
        again = await submit(queue, model_name, request("same", b"third"), id_is_generated=False, lane="gold")
        assert [output(one) for one in (first, second, again)] == [b"first", b"second", b"second"]
        bench.hold()
        tasks = [
            asyncio.create_task(submit(queue, model_name, request(f"r{index}"), id_is_generated=True, lane="gold"))
            for index in range(6)
        ]
        while sum(task.done() for task in tasks) < 4:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        tasks.append(asyncio.create_task(submit(queue, model_name, request("other"), id_is_generated=True)))
        bench.release()
        codes = [code(result) for result in await asyncio.gather(*tasks, return_exceptions=True)]
        assert sorted(codes[:6]) == ["lane_full"] * 4 + ["ok"] * 2
        assert codes[6] == "ok"

    bench.run(scenario)


@pytest.mark.parametrize("id_is_generated", [True, False])
def test_a_lane_that_is_full_of_bytes_refuses_and_no_other_does(
    bench: Bench, model_name: str, id_is_generated: bool
) -> None:
    size, most = 400_000, 1 << 20

    async def scenario(queue: Queue) -> None:
        bench.create_lane("gold", 100, most)
        await _lane_is_known(queue, model_name, "gold")
        bench.hold()
        tasks = []
        for index in range(6):
            one = request(f"r{index}", bytes(size))
            tasks.append(
                asyncio.create_task(submit(queue, model_name, one, id_is_generated=id_is_generated, lane="gold"))
            )
            await asyncio.wait(tasks[-1:], timeout=0.1)
        while sum(task.done() for task in tasks) < 4:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        other = asyncio.create_task(
            submit(queue, model_name, request("other", bytes(size)), id_is_generated=id_is_generated)
        )
        bench.release()
        results = await asyncio.gather(*tasks, other, return_exceptions=True)
        codes = [code(result) for result in results]
        assert sorted(codes[:6]) == ["lane_full"] * 4 + ["ok"] * 2
        assert codes[6] == "ok"
        # What was refused takes nothing, so each is told the same.
        assert len({str(result) for result in results if code(result) == "lane_full"}) == 1

    bench.run(scenario)


def test_an_unknown_lane_is_refused(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        with pytest.raises(RequestError) as caught:
            await submit(queue, model_name, request("one"), id_is_generated=True, lane="gold")
        assert (caught.value.outcome.code, caught.value.outcome.status) == ("unknown_lane", 404)

    bench.run(scenario)


def test_an_answer_can_be_asked_for_by_its_id(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        assert await queue.find(model_name, "mine") is Standing.UNKNOWN
        bench.hold()
        task = asyncio.create_task(submit(queue, model_name, request("mine"), id_is_generated=False))
        assert await admitted(queue, model_name) in (Standing.QUEUED, Standing.CLAIMED)
        bench.release()
        answer = await task
        assert await queue.find(model_name, "mine") == answer.reply
        assert await queue.cancel(model_name, "mine") is Standing.ANSWERED
        assert await queue.find(model_name, "mine") == answer.reply

    bench.run(scenario)


def test_a_cancelled_request_ends_every_wait_for_it_and_frees_its_id(bench: Bench, model_name: str) -> None:
    async def scenario(queue: Queue) -> None:
        assert await queue.cancel(model_name, "mine") is Standing.UNKNOWN
        bench.hold()
        tasks = [
            asyncio.create_task(submit(queue, model_name, request("mine", b"first"), id_is_generated=False))
            for _ in range(3)
        ]
        await admitted(queue, model_name)
        assert await queue.cancel(model_name, "mine") in (Standing.QUEUED, Standing.CLAIMED)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end(result) for result in results] == ["cancelled"] * 3
        assert await queue.find(model_name, "mine") is Standing.UNKNOWN
        bench.release()
        answer = await submit(queue, model_name, request("mine", b"second"), id_is_generated=False)
        assert output(answer) == b"second"

    bench.run(scenario)


def end(result: Answer | BaseException) -> str:
    """How a request ended, whether a reply said so or an error."""
    if isinstance(result, Answer) and result.reply.fault is not None:
        return result.reply.fault.code
    return code(result)


def test_asking_for_a_model_that_is_none(bench: Bench) -> None:
    async def scenario(queue: Queue) -> None:
        for step in (queue.find, queue.cancel):
            with pytest.raises(RequestError) as caught:
                await step("nothing", "mine")
            assert caught.value.outcome.code == "unknown_model"

    bench.run(scenario)

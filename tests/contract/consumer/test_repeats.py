"""What direct producers send twice: a real consumer on real servers runs it once and tells both senders."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from consumer.config import ConsumerConfig
from consumer.metrics import ConsumerMetrics
from consumer.models.echo import Echo
from consumer.queue.redis_stream import RedisStream
from consumer.worker import Worker
from shared import keys
from shared.model_config import ModelConfig
from shared.redis import functions
from shared.redis.client import connect
from shared.wire.messages import Request, decode_reply, encode_request
from tests.contract.lanes import LANE, settings
from tests.fakes import NoBoard
from tests.helpers import eventually


class Counting(Echo):
    """Notes what it runs, when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[bytes] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Give them back."""
        self.begun.set()
        self.gate.wait()
        self.ran += [bytes(row) for row in rows]
        return rows


class Bench:
    """A consumer in a thread, and a direct producer."""

    def __init__(self, url: str, model: str) -> None:
        chosen = settings(url, lease_ms=1500)
        config = ConsumerConfig(
            model, ModelConfig(family="echo"), chosen, "worker-1", "fp32", 8, 1.0, "window", metrics_port=0
        )
        self.model, self.counting, self.client = model, Counting(), connect(url)
        stream = RedisStream(chosen, model, "worker-1")
        self._worker = Worker(
            config,
            lambda: self.counting,
            stream,
            ConsumerMetrics(CollectorRegistry(), model),
            None,
            NoBoard(),
            frozenset(),
        )
        self._thread = threading.Thread(target=self._worker.run, daemon=True)
        self._thread.start()
        eventually(lambda: self.client.zscore(keys.MODELS, model) is not None)
        self.send("warm", b"warm", "warm")
        eventually(lambda: self.hints("warm"))
        self.counting.ran.clear()
        self.counting.begun.clear()

    def send(self, request_id: str, body: bytes, reply_to: str | None, ttl_ms: int = 20_000) -> Any:
        request = Request(request_id, ttl_ms, "application/octet-stream", body, reply_to=reply_to)
        return self.client.xadd(keys.work(self.model, LANE), {"m": encode_request(request)}, nomkstream=True)

    def hints(self, instance: str) -> list[tuple[bytes, str | None]]:
        """Id of each hint, and the code where it says one."""
        found: Any = self.client.xrange(keys.reply_stream(self.model, LANE, instance))
        ends = []
        for _, fields in found:
            reply = decode_reply(fields[b"reply"]) if b"reply" in fields else None
            ends.append((fields[b"id"], reply.fault.code if reply is not None and reply.fault else None))
        return ends

    def length(self) -> int:
        found: Any = self.client.xlen(keys.work(self.model, LANE))
        return int(found)

    def replies(self, request_id: str) -> list[bytes]:
        found: Any = self.client.lrange(keys.reply(self.model, LANE, request_id), 0, -1)
        return [decode_reply(one).outputs[0].data for one in found]  # type: ignore[index]

    def close(self) -> None:
        self.counting.gate.set()
        self._worker.stop()
        self._thread.join(20)
        found: Any = list(self.client.scan_iter(match=f"hr:{{{self.model}}}:*", count=1000))
        self.client.unlink(*found)
        self.client.zrem(keys.MODELS, self.model)
        self.client.close()


@pytest.fixture
def bench(redis_url: str, model_name: str) -> Iterator[Bench]:
    made = Bench(redis_url, model_name)
    yield made
    made.close()


def test_one_that_is_under_way_is_joined(bench: Bench) -> None:
    bench.counting.gate.clear()
    bench.send("first", b"first", "me")
    bench.counting.begun.wait(10)
    for number in range(5):  # they wait while that runs
        bench.send("same", b"same", f"sender-{number}")
    bench.counting.gate.set()
    for number in range(5):
        assert eventually(partial(bench.hints, f"sender-{number}")) == [(b"same", None)]
    assert bench.counting.ran == [b"first", b"same"]
    assert bench.replies("same") == [b"same"]
    eventually(lambda: bench.length() == 0)


def test_one_that_was_answered_is_not_run_again(bench: Bench) -> None:
    for number in range(3):
        bench.send("same", b"%d" % number, f"sender-{number}")
        assert eventually(partial(bench.hints, f"sender-{number}")) == [(b"same", None)]
    assert bench.counting.ran == [b"0"]
    assert bench.replies("same") == [b"0"]
    eventually(lambda: bench.length() == 0)


def test_a_simple_producers_repeat_is_not_run_again(bench: Bench) -> None:
    bench.client.rpush(keys.reply(bench.model, LANE, "same"), b"answered by another consumer")
    bench.send("same", b"x", None)
    bench.send("last", b"last", "me")
    assert eventually(lambda: bench.hints("me"))
    assert bench.counting.ran == [b"last"]
    eventually(lambda: bench.length() == 0)


def test_a_taken_reply_is_no_answer(bench: Bench) -> None:
    bench.send("same", b"0", "me")
    eventually(lambda: bench.replies("same"))
    bench.client.unlink(keys.reply(bench.model, LANE, "same"))
    bench.send("same", b"1", "me")
    assert eventually(lambda: bench.replies("same")) == [b"1"]
    assert bench.counting.ran == [b"0", b"1"]


def test_who_joined_one_that_expired_comes_back(bench: Bench) -> None:
    bench.counting.gate.clear()
    bench.send("first", b"first", "me")
    bench.counting.begun.wait(10)
    bench.send("same", b"same", "hasty", ttl_ms=200)
    bench.send("same", b"same", "patient")
    clock: Any = bench.client.time
    until_s = clock()[0] + clock()[1] / 1e6 + 0.3
    eventually(lambda: clock()[0] + clock()[1] / 1e6 > until_s)
    bench.counting.gate.set()
    assert eventually(lambda: bench.hints("hasty")) == [(b"same", "expired")]
    assert eventually(lambda: bench.hints("patient")) == [(b"same", None)]
    assert bench.replies("same") == [b"same"]
    assert bench.counting.ran == [b"first", b"same"]


def test_a_request_is_cancelled_while_it_waits_for_the_device(bench: Bench) -> None:
    bench.counting.gate.clear()
    bench.send("first", b"first", "me")
    bench.counting.begun.wait(10)
    gone, told = bench.send("gone", b"gone", "me"), bench.send("told", b"told", "me")
    bench.send("last", b"last", "me")
    work = keys.work(bench.model, LANE)
    pending: Any = bench.client.xpending
    eventually(lambda: pending(work, keys.GROUP)["pending"] == 4)
    assert bench.client.execute_command(*functions.cancel(work, [("gone", gone)], tell=True)) == [b"claimed"]
    bench.client.xadd(keys.terminations(bench.model, LANE), {"entry": told})  # as one without functions would
    cancelled = bench._worker._pipeline._context.cancellations
    eventually(lambda: cancelled.holds((LANE, gone)) and cancelled.holds((LANE, told)))
    bench.counting.gate.set()
    eventually(lambda: bench.replies("last"))
    eventually(lambda: (b"told", "cancelled") in bench.hints("me"))
    assert bench.counting.ran == [b"first", b"last"]
    assert bench.replies("gone") == bench.replies("told") == []
    eventually(lambda: bench.length() == 0)


@pytest.mark.parametrize("arguments", [(), (1,), (1, "x"), (1, 1, "1-1"), (1, 1, "1-1", "a", "me", "more")])
def test_wrong_arguments_are_refused(bench: Bench, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        bench.client.fcall(functions.ANSWERED, 1, keys.work(bench.model, LANE), *arguments)


def test_one_bad_item_never_strands_the_others(bench: Bench) -> None:
    bench.client.rpush(keys.reply(bench.model, LANE, "a"), b"reply")
    work = keys.work(bench.model, LANE)
    answer: Any = bench.client.fcall(
        functions.ANSWERED, 1, work, 9, 9000, "x", "a", "", "1-1", "b}", "", "1-1", "a", "m:e", "1-1", "a", "me"
    )
    assert answer == [b"error malformed item"] * 3 + [1]
    assert bench.hints("me") == [(b"a", None)]

"""A lane of kind ``batch`` on a running consumer: what runs when, and that nothing is lost however it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys
from shared.state.desired_state import SERVING, Serving
from tests.e2e.gaps.paced import models_file
from tests.e2e.gaps.producer import BULK, MAIN, Producer
from tests.e2e.stack import Process, Stack
from tests.helpers import eventually


class Place:
    """A consumer of a model that notes what it runs."""

    def __init__(self, url: str, folder: Path, model: str, **options: float | bool) -> None:
        settings = {"MAX_BATCH": "8", "BATCH_POLICY": "window", "WINDOW_MS": "0", "LEASE_MS": "2000"}
        self.stack = Stack(url, models_file(folder, model, **options), **settings)
        self.model = model
        self.consumer = self.start()
        self.producer = Producer(url, model, folder)

    def start(self) -> Process:
        return self.stack.start_consumer(self.model)

    def close(self) -> None:
        self.producer.close()
        self.stack.close_all()


@pytest.fixture
def place(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Place]:
    made = Place(valkey_url, tmp_path, model_name)
    made.producer.make_lane()
    made.consumer.until("There is a lane of kind batch")
    yield made
    made.close()


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_the_gaps_are_used_and_ordinary_requests_go_first(place: Place) -> None:
    producer, bulk, now = place.producer, names("b", 30), names("a", 12)
    producer.send(BULK, *bulk)
    eventually(lambda: producer.ran())
    for name in now:
        producer.send(MAIN, name)
        assert producer.are_answered(name)
    assert producer.are_answered(*bulk)
    assert set(producer.ran().values()) == {1}
    order = producer.runs()
    assert all(len({name[0] for name in batch}) == 1 for _, batch in order)  # its rows are dear: nothing is taken along
    first, last = (next(i for i, (_, batch) in pairs if batch[0][0] == "a") for pairs in (
        enumerate(order), reversed([*enumerate(order)])))  # fmt: skip
    assert first < last
    assert any(batch[0][0] == "b" for _, batch in order[first:last]), order
    metrics = place.stack.metrics(place.consumer)
    assert f'headrace_batch_lane_requests_total{{how="own_batch",model="{place.model}"}} 30.0' in metrics
    assert f'headrace_batches_total{{model="{place.model}",reason="gap"}}' in metrics
    assert f'headrace_queue_wait_seconds_count{{model="{place.model}"}} 12.0' in metrics


def test_a_large_request_runs_in_parts_with_others_in_between(place: Place) -> None:
    producer = place.producer
    producer.send(BULK, "large-8")
    eventually(lambda: producer.ran()["large"] >= 1)
    producer.send(MAIN, "a0")
    assert producer.are_answered("a0", "large-8")
    data = producer.reply("large-8").outputs
    assert data is not None
    assert bytes(data[0].data) == bytes(range(8))
    order = [batch[0] for _, batch in producer.runs()]
    assert order.count("large") >= 2
    assert order.index("a0") < len(order) - 1


def test_urgent_requests_take_turns(place: Place) -> None:
    producer = place.producer
    producer.send(MAIN, "hold-8")
    eventually(lambda: producer.ran())
    producer.send(MAIN, *names("a", 24))
    producer.send(BULK, *names("u", 2), urgent=True)
    producer.send(BULK, "b0")
    assert producer.are_answered(*names("a", 24), *names("u", 2), "b0")
    order = ["u0" if "u0" in batch else batch[0] for _, batch in producer.runs()]
    assert order.index("u0") < max(place for place, name in enumerate(order) if name[0] == "a")


def test_a_stop_answers_what_was_claimed_and_leaves_the_rest(place: Place) -> None:
    producer, bulk = place.producer, names("b", 40)
    producer.send(BULK, *bulk)
    eventually(lambda: producer.ran())
    assert place.consumer.terminate() == 0
    left = producer.client.xpending(keys.work(place.model, BULK), keys.GROUP)["pending"]
    assert left == 0
    place.consumer = place.start()
    assert producer.are_answered(*bulk)
    assert set(producer.ran().values()) == {1}


def test_what_a_killed_consumer_held_is_taken_over(place: Place) -> None:
    producer, bulk = place.producer, names("b", 20)
    producer.send(BULK, *bulk)
    eventually(lambda: producer.ran())
    place.consumer.signal(signal.SIGKILL)
    held = producer.client.xpending(keys.work(place.model, BULK), keys.GROUP)["pending"]
    assert held > 0
    place.consumer = place.start()
    producer.send(MAIN, "a0")
    assert producer.are_answered("a0", *bulk)
    assert producer.is_empty(BULK)
    assert f'headrace_redeliveries_total{{model="{place.model}"}}' in place.stack.metrics(place.consumer)


def test_cancelled_and_expired_requests_do_not_run(place: Place) -> None:
    producer = place.producer
    producer.send(MAIN, "hold-8")
    eventually(lambda: producer.ran())
    producer.send(MAIN, *names("a", 16))
    producer.send(BULK, "gone", "b0")
    producer.send(BULK, "late", ttl_ms=1)
    producer.cancel("gone")
    assert producer.are_answered("b0", *names("a", 16))
    eventually(lambda: producer.is_empty(BULK))
    assert producer.ran()["late"] == producer.ran()["gone"] == 0
    assert place.stack.ended(place.consumer, "expired") == 1


def test_a_pause_rests_both_readers(place: Place) -> None:
    producer, state = place.producer, keys.desired_state(place.model)
    producer.client.hset(state, SERVING, Serving.PAUSED.value)

    def says() -> bytes | None:
        (worker,) = producer.client.zrange(keys.workers(place.model), 0, -1)
        found: bytes | None = producer.client.hget(keys.worker(place.model, worker.decode()), SERVING)
        return found

    eventually(lambda: says() == Serving.PAUSED.value.encode(), limit_s=20.0)
    producer.send(BULK, "b0")
    producer.send(MAIN, "a0")
    assert producer.client.xpending(keys.work(place.model, BULK), keys.GROUP)["pending"] == 0
    assert producer.ran() == {}
    producer.client.hdel(state, SERVING)
    assert producer.are_answered("a0", "b0")


def test_a_lane_changes_its_kind_while_it_is_full(place: Place) -> None:
    producer, bulk = place.producer, names("b", 60)
    producer.send(BULK, *bulk[:30])
    producer.make_lane(is_batch=False)
    producer.send(BULK, *bulk[30:])
    place.consumer.until("default 1, bulk 1.")
    producer.make_lane()
    assert producer.are_answered(*bulk)
    assert set(producer.ran().values()) == {1}
    assert producer.is_empty(BULK)

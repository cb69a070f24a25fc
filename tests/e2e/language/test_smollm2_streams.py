"""The shipped language model on real consumers: killed, stopped, left; what it says is what an undisturbed one says."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.redis import functions
from shared.wire.frames import ALONE, FIRST, HANDED_OVER, Frame
from shared.wire.generation import Generation
from tests.e2e.language.conftest import Weights
from tests.e2e.stack import Process, Stack
from tests.fault.generating.asking import LANE, Asked, Producer, check_frames
from tests.helpers import eventually

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

STREAMS, TOKENS = 32, 24
THINGS = ("rain", "a cat", "the sea", "bread", "snow", "a train", "tea", "music")
START_S = 300.0


@pytest.fixture
def producer(valkey_url: str, model_name: str) -> Iterator[Producer]:
    made = Producer(valkey_url, model_name)
    yield made
    made.close()


def about(thing: str, number: int = 0, **more: Any) -> Generation:
    """A request for a text of a known length."""
    asked = {"role": "user", "content": f"Write {number + 2} sentences about {thing}."}
    given: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "stream": True, "ignore_end": True, **more}
    return Generation(messages=[asked], **given)


def ready(stack: Stack, model: str) -> Process:
    """Start a consumer; converting the weights takes the first one a while."""
    process = stack.begin_consumer(model)
    eventually(lambda: "Ready: " in process.text() or process.popen.poll() is not None, limit_s=START_S)
    assert process.popen.poll() is None, process.text()
    return process


def texts(producer: Producer, asked: list[Asked], limit_s: float = 300.0) -> list[str]:
    """Wait for all answers; each is what its frames say, which are numbered without a gap."""
    found = []
    for one in asked:
        place = keys.reply(producer.model, LANE, one.id)
        eventually(partial(producer.client.exists, place), limit_s=limit_s)
        generated = producer.reply(one).generated
        assert generated is not None
        text = generated.choices[0].text
        assert check_frames(producer.frames(one), one.id) == text
        found.append(text)
    return found


def attempts(frames: list[Frame]) -> set[int]:
    return {frame.attempt for frame in frames}


def test_32_streams_go_on_where_a_killed_consumer_stopped(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer, weights: Weights
) -> None:
    wanted = [
        about(THINGS[number % len(THINGS)], number // len(THINGS), temperature=number % 2, seed=number)
        for number in range(STREAMS)
    ]
    models = weights.models_file(tmp_path, model_name)
    with Stack(valkey_url, models, LEASE_MS="2000", **weights.settings) as stack:
        first, second = ready(stack, model_name), ready(stack, model_name)
        undisturbed = texts(producer, [producer.ask(one, ttl_ms=300_000) for one in wanted])
        assert len(set(undisturbed)) > STREAMS // 2
        asked = [producer.ask(one, ttl_ms=300_000) for one in wanted]
        eventually(lambda: all(producer.tokens(one) >= 4 for one in asked), limit_s=200.0)
        first.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        assert texts(producer, asked) == undisturbed
        taken = [one for one in asked if attempts(producer.frames(one)) == {1, 2}]
        print(f"{len(taken)} of {STREAMS} went on, the last one ended after {time.monotonic() - killed_s:.1f} s")
        assert len(taken) >= STREAMS // 4
        # They had shown that they are harmless, so none had to run alone.
        assert not any(frame.flags & ALONE for one in taken for frame in producer.frames(one))
        assert second.popen.poll() is None


def test_a_consumer_that_stops_hands_its_sentence_over(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer, weights: Weights
) -> None:
    """Its lease would last for a minute."""
    models = weights.models_file(tmp_path, model_name, slots=4)
    settings = {"LEASE_MS": "60000", "GENERATION_DRAIN_MS": "100", **weights.settings}
    with Stack(valkey_url, models, **settings) as stack:
        first = ready(stack, model_name)
        [undisturbed] = texts(producer, [producer.ask(about("snow", max_tokens=60))])
        asked = producer.ask(about("snow", max_tokens=60), ttl_ms=300_000)
        eventually(lambda: producer.tokens(asked) > 10)
        assert first.terminate() == 0
        assert not producer.client.exists(keys.reply(model_name, LANE, asked.id))
        ready(stack, model_name)
        assert texts(producer, [asked]) == [undisturbed]
        frames = producer.frames(asked)
        assert [frame.attempt for frame in frames if frame.flags & HANDED_OVER] == [1]
        assert [frame.attempt for frame in frames if frame.flags & FIRST] == [2]


def test_a_cancelled_one_makes_room_for_the_next(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer, weights: Weights
) -> None:
    models = weights.models_file(tmp_path, model_name, slots=1, context=1024)
    with Stack(valkey_url, models, **weights.settings) as stack:
        ready(stack, model_name)
        long = producer.ask(about("tea", max_tokens=900), ttl_ms=300_000)
        eventually(lambda: producer.tokens(long) > 3)
        waiting = producer.ask(about("bread", max_tokens=3), ttl_ms=300_000)
        work = keys.work(model_name, LANE)
        producer.client.execute_command(*functions.cancel(work, [(long.id, long.entry)], tell=False))
        [text] = texts(producer, [waiting])
        assert text
        assert producer.frames(long) == []  # long before it would have ended

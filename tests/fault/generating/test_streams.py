"""Generations of a real consumer: parts as they come, take-over, cancellation, deadlines, hand-over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.generation.engine import Sampling, Sequence
from consumer.generation.null_engine import NullEngine, encode
from shared import keys
from shared.redis import functions
from shared.wire.frames import ALONE, DEADLINE, FIRST, HANDED_OVER, Frame
from shared.wire.generation import CONTENT_TYPE, Generation
from shared.wire.messages import Request, decode_reply, encode_request
from tests.e2e.stack import Stack
from tests.fault.generating.asking import LANE, Producer, check_frames, null_models
from tests.helpers import eventually


@pytest.fixture
def producer(valkey_url: str, model_name: str) -> Iterator[Producer]:
    made = Producer(valkey_url, model_name)
    yield made
    made.close()


def test_a_text_comes_in_parts(valkey_url: str, tmp_path: Path, model_name: str, producer: Producer) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=5)) as stack:
        stack.start_consumer(model_name)
        asked = producer.ask(Generation(prompt="hällo ", max_tokens=60, temperature=0, stream=True))
        generated = producer.reply(asked).generated
        assert generated is not None
        text = generated.choices[0].text
        assert text == ("hällo " * 9)[: len(text)]
        frames = producer.frames(asked)
        assert check_frames(frames, asked.id) == text
        assert (len(frames), frames[-1].finish) == (generated.frames, "length")
        assert len(frames) > 2
        assert (generated.usage.prompt, generated.usage.generated) == (7, 60)
        assert producer.hinted() == frames


def begun(frames: list[Frame], flag: int = FIRST) -> list[int]:
    """The attempts that begin with a frame of this flag."""
    return [frame.attempt for frame in frames if frame.flags & flag]


def undisturbed(wanted: Generation) -> str:
    """The text that an engine makes which nothing happens to."""
    engine = NullEngine(1, 4096)
    sampling = Sampling(wanted.temperature, seed=wanted.seed)
    engine.start(Sequence("a", encode(wanted.prompt or ""), wanted.max_tokens or 1, sampling))
    text = ""
    while steps := engine.step():
        text += steps[0].text
    return text


def test_a_killed_consumer_loses_no_token_of_32_streams(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20), LEASE_MS="1000") as stack:
        first = stack.start_consumer(model_name)
        wanted = [
            Generation(prompt=f"prompt {number} ", max_tokens=250, temperature=number % 2, seed=number, stream=True)
            for number in range(32)
        ]
        asked = [producer.ask(one) for one in wanted]
        eventually(lambda: all(producer.tokens(one) >= 10 for one in asked))
        first.signal(signal.SIGKILL)
        second = stack.start_consumer(model_name)
        for one, its in zip(asked, wanted, strict=True):
            reply = producer.reply(one)
            assert reply.generated is not None
            assert reply.generated.choices[0].text == undisturbed(its)
            frames = producer.frames(one)
            assert check_frames(frames, one.id) == undisturbed(its)
            # They had shown that they are harmless, so all went on together.
            assert (begun(frames), begun(frames, ALONE), reply.attempt) == ([2], [], 2)
        kept = sum(len(frame.tokens) // 4 for one in asked for frame in producer.frames(one) if frame.attempt == 1)
        shown = stack.metrics(second)
        assert f'headrace_resumed_total{{model="{model_name}"}} 32.0\n' in shown
        assert f'headrace_resumed_tokens_total{{model="{model_name}"}} {kept:.1f}\n' in shown


def test_one_without_tokens_is_taken_over_alone(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    """It may be what ended the consumer: nothing shows that it is not."""
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=50), LEASE_MS="1000") as stack:
        stack.start_consumer(model_name)
        asked = producer.ask(Generation(prompt="x", max_tokens=6))
        # Claimed by a consumer that dies before it has made a token.
        stack.latest.signal(signal.SIGKILL)
        claimed = eventually(lambda: _claim(producer))
        assert asked.entry in claimed
        stack.start_consumer(model_name)
        producer.reply(asked)
        frames = producer.frames(asked)
        check_frames(frames, asked.id)
        assert (begun(frames), begun(frames, ALONE)) == ([2], [2])


def _claim(producer: Producer) -> list[bytes]:
    work = keys.work(producer.model, LANE)
    producer.client.execute_command("XREADGROUP", "GROUP", keys.GROUP, "dead", "STREAMS", work, ">")
    rows: Any = producer.client.xpending_range(work, keys.GROUP, "-", "+", 10)
    return [row["message_id"] for row in rows]


def test_a_cancelled_one_stops_and_frees_its_slot(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20, slots=1)) as stack:
        consumer = stack.start_consumer(model_name)
        long = producer.ask(Generation(prompt="long ", max_tokens=4000, stream=True))
        eventually(lambda: producer.tokens(long) > 3)
        waiting = producer.ask(Generation(prompt="short ", max_tokens=3))
        work = keys.work(model_name, LANE)
        # Nothing is claimed that could not start.
        assert len(producer.client.xpending_range(work, keys.GROUP, "-", "+", 10)) == 1
        producer.client.execute_command(*functions.cancel(work, [(long.id, long.entry)], tell=False))
        assert producer.reply(waiting).generated is not None
        assert producer.frames(long) == []
        eventually(lambda: stack.ended(consumer, "cancelled") or stack.ended(consumer, "ok"))
        assert not producer.client.exists(keys.reply(model_name, LANE, long.id))


def test_the_time_for_the_whole_ends_it_with_what_there_is(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20)) as stack:
        stack.start_consumer(model_name)
        asked = producer.ask(Generation(prompt="on and on ", max_tokens=4000, stream=True, run_ms=500), ttl_ms=400)
        generated = producer.reply(asked).generated
        assert generated is not None
        assert (generated.choices[0].finish_reason, generated.ended) == ("length", "deadline")
        assert 0 < generated.usage.generated < 4000
        frames = producer.frames(asked)
        assert check_frames(frames, asked.id) == generated.choices[0].text
        assert frames[-1].flags & DEADLINE


def test_one_that_cannot_begin_in_time_expires(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    """And one that has begun does not, however long it takes: it is never claimed before it can start."""
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20, slots=1)) as stack:
        consumer = stack.start_consumer(model_name)
        long = producer.ask(Generation(prompt="x", max_tokens=50, stream=True), ttl_ms=300)
        eventually(lambda: producer.tokens(long) > 0)
        late = producer.ask(Generation(prompt="x", max_tokens=1), ttl_ms=200)
        assert producer.reply(long).generated is not None
        eventually(lambda: stack.ended(consumer, "expired") == 1)
        assert not producer.client.exists(keys.reply(model_name, LANE, late.id))


def test_a_consumer_that_stops_hands_its_generations_over(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    """At once: its leases last for a minute, and the text is there long before."""
    models = null_models(tmp_path, model_name, step_ms=20)
    with Stack(valkey_url, models, LEASE_MS="60000", GENERATION_DRAIN_MS="100") as stack:
        first = stack.start_consumer(model_name)
        asked = producer.ask(Generation(prompt="to be continued ", max_tokens=240, temperature=0, stream=True))
        eventually(lambda: producer.tokens(asked) > 10)
        assert first.terminate() == 0
        stack.start_consumer(model_name)
        generated = producer.reply(asked).generated
        assert generated is not None
        assert generated.choices[0].text == "to be continued " * 15
        frames = producer.frames(asked)
        assert check_frames(frames, asked.id) == generated.choices[0].text
        assert begun(frames, HANDED_OVER) == [1]
        # It ended no consumer: it neither runs alone, nor does the attempt count against it.
        assert (begun(frames), begun(frames, ALONE)) == ([2], [])


def test_what_cannot_be_generated_gets_an_error_and_disturbs_nobody(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=2)) as stack:
        stack.start_consumer(model_name)
        good = producer.ask(Generation(prompt="good ", max_tokens=100, stream=True))
        too_long = producer.ask(Generation(prompt="x" * 3000, max_tokens=2000))
        schema = producer.ask(Generation(prompt="x", max_tokens=2, schema={}))
        work = keys.work(model_name, LANE)
        bad = encode_request(Request("bad", 30_000, CONTENT_TYPE, b"\x81\xa5beams\x05", reply_to=producer.instance))
        producer.client.xadd(work, {"m": bad})
        faults = {one.id: producer.reply(one).fault for one in (too_long, schema)}
        told = faults[too_long.id]
        assert told is not None
        assert told.code == "context_length_exceeded"
        assert "4096" in told.message
        assert "5000" in told.message
        refused = faults[schema.id]
        assert refused is not None
        assert (refused.code, refused.field) == ("invalid_input", "schema")
        place = keys.reply(model_name, LANE, "bad")
        raw: Any = eventually(lambda: producer.client.lindex(place, 0))
        unknown = decode_reply(raw).fault
        assert unknown is not None
        assert (unknown.code, unknown.field) == ("invalid_input", "beams")
        assert producer.reply(good).generated is not None
        check_frames(producer.frames(good), good.id)


def test_a_consumer_that_slept_changes_nothing(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    """It wakes up in the middle of a sentence that is another's by now."""
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=20), LEASE_MS="1000") as stack:
        sleeper = stack.start_consumer(model_name)
        asked = [producer.ask(Generation(prompt="sleep ", max_tokens=240, temperature=0, stream=True)) for _ in "ab"]
        eventually(lambda: all(producer.tokens(one) > 10 for one in asked))
        sleeper.signal(signal.SIGSTOP)
        stack.start_consumer(model_name)
        eventually(lambda: all(producer.frames(one)[-1].attempt == 2 for one in asked))
        sleeper.signal(signal.SIGCONT)
        for one in asked:
            generated = producer.reply(one).generated
            assert generated is not None
            assert generated.choices[0].text == "sleep " * 40
            assert check_frames(producer.frames(one), one.id) == "sleep " * 40
        again = producer.ask(Generation(prompt="awake ", max_tokens=6, temperature=0))
        assert producer.reply(again).generated is not None
        assert sleeper.popen.poll() is None


def test_a_stop_text_across_frames_ends_it_and_is_not_shown(
    valkey_url: str, tmp_path: Path, model_name: str, producer: Producer
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=50)) as stack:
        stack.start_consumer(model_name)
        wanted = Generation(prompt="one two three ", max_tokens=100, temperature=0, stop=("two t",), stream=True)
        asked = producer.ask(wanted)
        generated = producer.reply(asked).generated
        assert generated is not None
        assert (generated.choices[0].text, generated.choices[0].finish_reason) == ("one ", "stop")
        # A token takes longer than frames are apart: those of the stop text came one by one, without a text.
        assert check_frames(producer.frames(asked), asked.id) == "one "
        assert len(producer.frames(asked)) > 4

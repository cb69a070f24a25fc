"""Generations of a real consumer: parts as they come, take-over, cancellation, deadlines, hand-over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.wire.generation import Generation
from tests.e2e.stack import Stack
from tests.fault.generating.asking import Producer, check_frames, null_models


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

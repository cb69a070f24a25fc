"""The family ``generate``: its tables, and from a request to a sequence; with the null engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from consumer.models.generate import generate_family, null
from consumer.models.generate.generator import Generator, Row
from shared.model_config import ModelConfig
from shared.wire.generation import CONTENT_TYPE, Generation, encode_generation
from shared.wire.messages import Request, pack
from shared.wire.outcomes import RequestError


@pytest.fixture
def model() -> Generator:
    made = null.build({"slots": 2, "context": 16})
    made.load("cpu", "fp32")
    return made


def row_of(model: Generator, wanted: Generation) -> Row:
    (row,) = model.preprocess(Request("a", 1000, CONTENT_TYPE, encode_generation(wanted)))
    return row


def refusal(model: Generator, body: Mapping[str, Any] | bytes, content_type: str = CONTENT_TYPE) -> RequestError:
    with pytest.raises(RequestError) as refused:
        model.preprocess(Request("a", 1000, content_type, body if isinstance(body, bytes) else pack(body)))
    return refused.value


def test_a_request_becomes_a_sequence(model: Generator) -> None:
    row = row_of(model, Generation(prompt="ab", temperature=0.5, top_k=3, stop=("x",), seed=9, stream=True, run_ms=7))
    sequence = row.sequence
    assert (sequence.prompt, sequence.max_tokens, sequence.stop) == ((97, 98), 14, ("x",))
    assert (sequence.sampling.temperature, sequence.sampling.top_k, sequence.sampling.seed) == (0.5, 3, 9)
    assert (row.is_streamed, row.run_ms, model.units(row)) == (True, 7, 16)


def test_a_conversation_becomes_a_sequence(model: Generator) -> None:
    assert row_of(model, Generation(messages=[{"role": "user", "content": "hi"}])).sequence.prompt == (104, 105)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "tokens": b"\0\0\0\0"}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"tokens": b"\0\0\0"}, "tokens"),
        ({"tokens": b"\xff\xff\xff\xff"}, "prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": "x"}, "seed"),
        ({"prompt": "a", "stop": ["a"] * 5}, "stop"),
        ({"prompt": "a", "stream": "yes"}, "stream"),
        ({"prompt": "a", "run_ms": 1.5}, "run_ms"),
        ({"prompt": "a", "schema": {}}, "schema"),
        ({"prompt": "a", "beams": 3}, "beams"),
        (b"\x81\xa6prompt\xa1\xff", "body"),
        (b"\xc1", "body"),
        (b"", "body"),
    ],
)
def test_what_is_wrong_is_named(model: Generator, body: Mapping[str, Any] | bytes, field: str) -> None:
    error = refusal(model, body)
    assert error.outcome.status in (400, 422)
    assert error.field == field
    assert error.message.endswith(".")


def test_what_is_too_long_is_told_with_both_numbers(model: Generator) -> None:
    for body, numbers in (({"prompt": "a" * 17}, ("16", "17")), ({"prompt": "ab", "max_tokens": 1 << 31}, ("16", "2"))):
        error = refusal(model, body)
        assert error.outcome.code == "context_length_exceeded"
        assert all(number in error.message for number in numbers)


def test_another_content_type_is_refused(model: Generator) -> None:
    assert refusal(model, b"hello", "text/plain").outcome.code == "unsupported_media_type"


def test_warming_up_generates(model: Generator) -> None:
    outputs = model.run(model.sample_rows(5))
    assert [(one.choices[0].text, one.usage.generated) for one in outputs] == [("He", 2)] * 5
    assert model.postprocess(outputs[:1], Request("a", 1)).generated == outputs[0]
    model.close()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (ModelConfig("generate"), "needs weights"),
        (ModelConfig("generate", architecture="llama"), "no architecture 'llama'"),
        (ModelConfig("generate", architecture="null", options={"slot": 1}), "no option 'slot'"),
        (ModelConfig("generate", architecture="null", options={"slots": 0}), "at least 1"),
        (ModelConfig("generate", architecture="null", options={"step_ms": True}), "at least 0"),
        (ModelConfig("generate", weights="x", options={"slots": "many"}), "at least 1"),
        (ModelConfig("generate", weights="x", options={"beams": 1}), "no option 'beams'"),
    ],
)
def test_a_wrong_table_is_told(config: ModelConfig, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        generate_family.build(config, 1)

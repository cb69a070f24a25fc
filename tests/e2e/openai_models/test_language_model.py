"""Logprobs and JSON of a schema with OpenAI's own client and a small language model whose weights are random."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pytest

from tests.e2e.openai_models.conftest import Place

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]  # each consumer takes seconds to import transformers

SCHEMA: Any = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def formatted(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}


def chat(place: Place, **more: Any) -> Any:
    asked: Any = {"model": place.writer, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, **more}
    return place.client.chat.completions.create(**asked)


def check(tokens: list[Any], top: int) -> None:
    """Hold what is told of tokens to what probabilities are; greedy decoding takes the likeliest."""
    for one in tokens:
        assert len(one.top_logprobs) == top
        assert -math.inf < one.logprob <= 0
        if top:
            logprobs = [other.logprob for other in one.top_logprobs]
            assert logprobs == sorted(logprobs, reverse=True)
            assert one.top_logprobs[0].token == one.token
            assert sum(math.exp(logprob) for logprob in logprobs) <= 1 + 1e-4
        assert bytes(one.bytes).decode() == one.token


@pytest.mark.parametrize("top", [0, 3, 20])
def test_logprobs_of_a_message(place: Place, top: int) -> None:
    asked: Any = {"logprobs": True, "top_logprobs": top}
    [choice] = chat(place, **asked).choices
    tokens = choice.logprobs.content
    assert 0 < len(tokens) <= 12
    check(tokens, top)
    chunks = list(chat(place, **asked, stream=True))
    streamed = [one for chunk in chunks for each in chunk.choices if each.logprobs for one in each.logprobs.content]
    assert streamed == tokens
    assert "".join(each.delta.content or "" for chunk in chunks for each in chunk.choices) == choice.message.content


def test_logprobs_of_a_prompt(place: Place) -> None:
    asked: Any = {"model": place.writer, "prompt": "hi", "max_tokens": 8, "temperature": 0, "logprobs": 5}
    told = place.client.completions.create(**asked).choices[0].logprobs
    assert told is not None and told.top_logprobs is not None and told.tokens is not None
    for token, logprob, top in zip(told.tokens, told.token_logprobs or (), told.top_logprobs, strict=True):
        assert len(top) <= 5  # tokens that say the same alone share a key
        assert top[token] == max(top.values()) == logprob


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_message_of_a_schema(place: Place, stream: bool, temperature: float) -> None:
    more: Any = {"max_tokens": 60, "temperature": temperature, "seed": 3, "response_format": formatted(SCHEMA)}
    done = chat(place, **more, stream=stream)
    if stream:
        text = "".join(each.delta.content or "" for chunk in done for each in chunk.choices)
    else:
        assert done.choices[0].finish_reason == "stop"
        text = done.choices[0].message.content
    found = json.loads(text)
    assert found["colour"] in ("red", "green") and 0 <= found["count"] <= 9 and len(found) == 2


def test_a_response_of_a_schema(place: Place) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "thing", "schema": SCHEMA}}
    done = place.client.responses.create(model=place.writer, input="hi", text=form, max_output_tokens=60)
    assert json.loads(done.output_text)["colour"] in ("red", "green")


def test_any_object(place: Place) -> None:
    """Random weights find no end by themselves, so what came must at least begin as an object does."""
    text = chat(place, response_format={"type": "json_object"}).choices[0].message.content
    assert text.startswith("{")
    assert not text.rstrip().endswith("}") or isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strange"}, "strange"),
        ({"$ref": "https://example.com/schema"}, "cannot be used"),
        ({"type": "object", "properties": 5}, "cannot be used"),
        ({"enum": ["x" * 70_000]}, "at most 65536 bytes"),
    ],
)
def test_a_schema_that_cannot_be_used(place: Place, schema: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        chat(place, response_format=formatted(schema))
    assert caught.value.param == "response_format"
    assert chat(place, max_tokens=1).choices  # and others go on


def test_longer_than_the_context(place: Place) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(place, messages=[{"role": "user", "content": "long " * 100}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "96 tokens" in caught.value.message and "5" in caught.value.message

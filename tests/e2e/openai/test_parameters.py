"""Parameters of OpenAI's API with its own client: each is honoured, or refused by name; none is silently dropped."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_chat import raw, said, size


def chat(place: Place, model: str = "", **more: Any) -> Any:
    asked = {"model": model or place.writer, "messages": said("one two three "), "temperature": 0, **more}
    return place.client.chat.completions.create(**asked)


def text_of(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for one in chunks for choice in one.choices)


def test_logprobs_of_a_message(place: Place) -> None:
    whole = chat(place, max_tokens=5, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert [(one.token, one.logprob, one.bytes) for one in whole.content] == [(c, 0.0, [ord(c)]) for c in "one t"]
    chunks = list(chat(place, place.slow, max_tokens=5, logprobs=True, top_logprobs=2, stream=True))
    parts = [choice.logprobs.content for one in chunks for choice in one.choices if choice.logprobs is not None]
    assert [one for part in parts for one in part] == whole.content
    assert chat(place, max_tokens=5).choices[0].logprobs is None


def test_logprobs_of_halves_of_characters_come_with_them(place: Place) -> None:
    """Four tokens of which only the last one has a text."""
    asked: Any = {"model": place.slow, "messages": said("🙂"), "max_tokens": 4, "temperature": 0, "logprobs": True}
    chunks = list(place.client.chat.completions.create(**asked, stream=True))
    told = [one for chunk in chunks for choice in chunk.choices if choice.logprobs for one in choice.logprobs.content]
    assert (len(told), text_of(chunks)) == (4, "🙂")


def test_logprobs_of_a_prompt(place: Place) -> None:
    asked: Any = {"model": place.writer, "prompt": "go on", "max_tokens": 5, "temperature": 0, "logprobs": 1}
    told = place.client.completions.create(**asked).choices[0].logprobs
    assert told is not None
    assert (told.tokens, told.token_logprobs, told.text_offset) == (list("go on"), [0.0] * 5, [0, 1, 2, 3, 4])
    chunks = list(place.client.completions.create(**asked, stream=True))
    offsets = [at for one in chunks for choice in one.choices if choice.logprobs for at in choice.logprobs.text_offset]
    assert offsets == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stop", ["two", ["two"], ["zebra", "two t", "two"], ["o t", "three", "e ", "x"]])
def test_stops_whether_they_come_in_one_frame_or_in_several(place: Place, stop: Any) -> None:
    first = min((stop,) if isinstance(stop, str) else stop, key=lambda one: "one two three ".find(one) % 99)
    expected = "one two three "[: "one two three ".index(first)]
    for model in (place.writer, place.slow):  # of the slow one each token is a frame
        done = chat(place, model, stop=stop)
        assert (done.choices[0].message.content, done.choices[0].finish_reason) == (expected, "stop")
        chunks = list(chat(place, model, stop=stop, stream=True))
        assert (text_of(chunks), chunks[-1].choices[0].finish_reason) == (expected, "stop")


def test_a_seed_decides_the_text(place: Place) -> None:
    texts = {
        seed: {chat(place, temperature=1, seed=seed, max_tokens=20).choices[0].message.content for _ in "ab"}
        for seed in (1, 2, -1, 2**70)
    }
    assert all(len(found) == 1 for found in texts.values())
    assert len(set.union(*texts.values())) == 4
    assert len({chat(place, temperature=1, max_tokens=20).choices[0].message.content for _ in "abc"}) == 3


def test_both_names_of_the_most_tokens(place: Place) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        most: Any = {name: 3}
        done = chat(place, **most)
        assert (done.choices[0].message.content, done.usage.completion_tokens) == ("one", 3)
    with pytest.raises(openai.BadRequestError) as caught:
        chat(place, max_tokens=3, max_completion_tokens=4)
    assert caught.value.param == "max_completion_tokens"


def test_usage_only_where_it_is_asked_for(place: Place) -> None:
    chunks = list(chat(place, max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert [one.usage is not None for one in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage.total_tokens == size("one two three ") + 3
    asked: Any = {"model": place.writer, "prompt": "a", "max_tokens": 2, "stream": True}
    chunks = list(place.client.completions.create(**asked, stream_options={"include_usage": True}))
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 2)
    assert all(one.usage is None for one in place.client.completions.create(**asked))


@pytest.mark.parametrize(
    "ignored",
    [
        {"user": "me", "safety_identifier": "me", "prompt_cache_key": "a"},
        {"metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"tool_choice": "none"},
        {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "stop": None, "seed": None, "top_p": 1},
    ],
)
def test_what_changes_nothing_is_taken(place: Place, ignored: dict[str, Any]) -> None:
    assert chat(place, max_tokens=3, **ignored).choices[0].message.content == "one"


@pytest.mark.parametrize(
    ("refused", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_object"}}, "response_format"),  # this model has no schemas
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"seed": "x"}, "seed"),
        ({"logprobs": 3}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True, "colour": 1}, "stream": True}, "stream_options.colour"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(place: Place, refused: dict[str, Any], param: str) -> None:
    status, body = raw(place, "/v1/chat/completions", {"model": place.writer, "messages": said("a"), **refused})
    assert (status, body["error"]["param"], body["error"]["type"]) == (400, param, "invalid_request_error"), body


@pytest.mark.parametrize(
    "ignored",
    [{"tool_choice": "auto", "parallel_tool_calls": True}, {"truncation": "disabled", "include": []}, {"top_p": 1}],
)
def test_what_changes_nothing_of_a_response_is_taken(place: Place, ignored: dict[str, Any]) -> None:
    asked: Any = {"model": place.writer, "input": "one two", "max_output_tokens": 3, "temperature": 0}
    assert place.client.responses.create(**asked, **ignored).output_text == "one"


@pytest.mark.parametrize(
    ("refused", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": 5}}}, "text.format.schema"),
    ],
)
def test_what_cannot_be_honoured_of_a_response_is_refused_by_name(
    place: Place, refused: dict[str, Any], param: str
) -> None:
    status, body = raw(place, "/v1/responses", {"model": place.writer, "input": "a", **refused})
    assert (status, body["error"]["param"]) == (400, param), body

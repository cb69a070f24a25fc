"""Chat and completions with OpenAI's own client against a running stack whose model repeats its prompt."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.stack import call

HELLO = "Grüße ☃ und 🙂!"


def said(text: str) -> Any:
    return [{"role": "system", "content": "Repeat."}, {"role": "user", "content": text}]


def size(text: str) -> int:
    return len(text.encode())


def raw(place: Place, path: str, document: bytes | dict[str, Any]) -> tuple[int, Any]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = call(place.stack.url + path, body, "application/json")
    return answer.status, answer.body


def test_a_message_as_a_whole(place: Place) -> None:
    done = place.client.chat.completions.create(
        model=place.writer, messages=said(HELLO), max_tokens=size(HELLO), temperature=0
    )
    assert (done.object, done.model) == ("chat.completion", place.writer) and done.id.startswith("chatcmpl-")
    [choice] = done.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", HELLO, "length")
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (size(HELLO), size(HELLO))
    assert done.usage.total_tokens == 2 * size(HELLO)


def test_a_message_as_it_is_made(place: Place) -> None:
    chunks = list(
        place.client.chat.completions.create(
            model=place.slow,
            messages=said(HELLO),
            max_completion_tokens=size(HELLO),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({(one.id, one.model, one.created, one.object) for one in chunks}) == 1
    *parts, finish, usage = chunks
    assert parts[0].choices[0].delta.role == "assistant"
    texts = [one.choices[0].delta.content or "" for one in parts]
    assert "".join(texts) == HELLO and len(texts) > 3
    assert (finish.choices[0].finish_reason, finish.choices[0].delta.content) == ("length", None)
    assert usage.choices == [] and usage.usage is not None and usage.usage.completion_tokens == size(HELLO)
    assert all(one.usage is None for one in chunks[:-1])


def test_events_as_they_are_on_the_wire(place: Place) -> None:
    asked: Any = {"model": place.writer, "messages": said("hi"), "max_tokens": 2, "stream": True}
    with place.client.chat.completions.with_streaming_response.create(**asked) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        text = "".join(answer.iter_text())
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert events[0].startswith("data: {") and '"usage"' not in text
    last = [event for event in events if event.startswith("id: ")][-1]
    assert last.split("\n")[0].endswith(".2")


def test_a_prompt_as_text_and_as_tokens(place: Place) -> None:
    for prompt in ("go on", ["go on"], list(b"go on"), [list(b"go on")]):
        done = place.client.completions.create(model=place.writer, prompt=prompt, max_tokens=5, temperature=0)
        assert (done.object, done.choices[0].text, done.choices[0].finish_reason) == (
            "text_completion",
            "go on",
            "length",
        )
    texts = place.client.completions.create(model=place.writer, prompt="go on", stream=True, temperature=0)
    assert "".join(one.choices[0].text for one in texts) == ("go on" * 4)[:16]  # 16 tokens unless it says how many


def test_a_stop_text_ends_it(place: Place) -> None:
    for stream in (False, True):
        asked: Any = {
            "model": place.writer,
            "messages": said("one two three"),
            "stop": "tw",
            "stream": stream,
            "temperature": 0,
        }
        done = place.client.chat.completions.create(**asked)
        if stream:
            chunks = list(done)
            assert "".join(one.choices[0].delta.content or "" for one in chunks) == "one "
            assert chunks[-1].choices[0].finish_reason == "stop"
        else:
            assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("one ", "stop")


def test_parts_of_a_message_are_joined(place: Place) -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages: Any = [{"role": "developer", "content": "x"}, {"role": "user", "content": content}]
    done = place.client.chat.completions.create(model=place.writer, messages=messages, max_tokens=2, temperature=0)
    assert done.choices[0].message.content == "ab"


def test_a_prompt_longer_than_the_context(place: Place) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            place.client.chat.completions.create(model=place.writer, messages=said("long " * 1000), stream=stream)
        assert caught.value.code == "context_length_exceeded"
        assert "4096" in caught.value.message and "500" in caught.value.message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", "b" * 257]}, "stop[1]"),
        ({"n": 2}, "n"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"colour": 1}, "colour"),
        ({"model": "nobody"}, "model"),
    ],
)
def test_what_is_wrong_is_named(place: Place, change: dict[str, Any], param: str) -> None:
    asked = {"model": place.writer, "messages": said("a"), "max_tokens": 1, **change}
    status, body = raw(place, "/v1/chat/completions", asked)
    assert status == (404 if param == "model" else 400), body
    assert body["error"]["param"] == (None if param == "model" else param), body
    assert raw(place, "/v1/chat/completions", {"model": place.writer, "messages": said("a"), "max_tokens": 1})[0] == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "a"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_named(place: Place, change: dict[str, Any], param: str) -> None:
    status, body = raw(place, "/v1/completions", {"model": place.writer, "prompt": "a", **change})
    assert (status, body["error"]["param"]) == (400, param), body


def test_a_model_that_does_not_generate(place: Place) -> None:
    with pytest.raises(openai.BadRequestError, match="does not generate text"):
        place.client.chat.completions.create(model=place.letters, messages=said("a"))
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert raw(place, path, b"")[0] == raw(place, path, b"{")[0] == 400


def test_a_response(place: Place) -> None:
    asked: Any = {"model": place.writer, "input": HELLO, "temperature": 0, "instructions": "Repeat."}
    done = place.client.responses.create(**asked, max_output_tokens=size(HELLO))
    assert (done.object, done.status, done.output_text) == ("response", "incomplete", HELLO)
    assert done.usage is not None and done.usage.output_tokens == size(HELLO)
    events = list(place.client.responses.create(**asked, max_output_tokens=size(HELLO), stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == HELLO
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == HELLO
    messages: Any = [{"role": "user", "content": [{"type": "input_text", "text": "ab"}]}]
    parts = place.client.responses.create(**{**asked, "input": messages}, max_output_tokens=2)
    assert parts.output_text == "ab"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [1]}, "tools"),
        ({"colour": 1}, "colour"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ],
)
def test_what_is_wrong_with_an_input_is_named(place: Place, change: dict[str, Any], param: str) -> None:
    status, body = raw(place, "/v1/responses", {"model": place.writer, "input": "a", **change})
    assert (status, body["error"]["param"]) == (400, param), body

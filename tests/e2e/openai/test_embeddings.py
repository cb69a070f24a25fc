"""Embeddings and the list of models, with OpenAI's own client against a running stack."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import openai
import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.letters import LETTERS
from tests.e2e.stack import call


def expected(text: str) -> list[float]:
    counts = [text.lower().count(chr(ord("a") + index)) for index in range(LETTERS)]
    length = math.sqrt(sum(count * count for count in counts)) or 1
    return [count / length for count in counts]


def embed(place: Place, given: Any, **more: Any) -> list[list[float]]:
    answer = place.client.embeddings.create(model=place.letters, input=given, **more)
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def raw(place: Place, document: bytes | dict[str, Any]) -> tuple[int, Any]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = call(f"{place.stack.url}/v1/embeddings", body, "application/json")
    return answer.status, answer.body


def test_one_text_and_many(place: Place) -> None:
    answer = place.client.embeddings.create(model=place.letters, input="a cat")
    assert answer.object == "list" and answer.model == place.letters and answer.data[0].object == "embedding"
    assert answer.data[0].embedding == pytest.approx(expected("a cat"), abs=1e-6)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (2, 2)
    texts = ["dog", "straße ☃", "zebra zebra"]
    for got, text in zip(embed(place, texts), texts, strict=True):
        assert got == pytest.approx(expected(text), abs=1e-6)


def test_floats_and_base64_say_the_same(place: Place) -> None:
    asked = {"model": place.letters, "input": ["one", "two"]}
    _, floats = raw(place, {**asked, "encoding_format": "float"})
    _, coded = raw(place, {**asked, "encoding_format": "base64"})
    for one, other in zip(floats["data"], coded["data"], strict=True):
        assert one["embedding"] == list(struct.unpack(f"<{LETTERS}f", base64.b64decode(other["embedding"])))
    assert embed(place, ["one", "two"], encoding_format="float") == [one["embedding"] for one in floats["data"]]


def test_tokens_give_what_their_text_gives(place: Place) -> None:
    tokens = [list(map(ord, text)) for text in ("cat", "dog")]
    assert embed(place, tokens) == embed(place, ["cat", "dog"])
    assert embed(place, tokens[0]) == embed(place, "cat")


def test_fewer_dimensions_have_the_length_1_again(place: Place) -> None:
    for form in ({}, {"encoding_format": "float"}):  # unless told otherwise, the client asks for base64
        [got] = embed(place, "abz", dimensions=2, **form)
        assert got == pytest.approx([math.sqrt(0.5)] * 2, abs=1e-6)
    with pytest.raises(openai.BadRequestError) as caught:
        embed(place, "a", dimensions=LETTERS + 1)
    assert caught.value.param == "dimensions"


def test_as_many_texts_as_openai_takes(place: Place) -> None:
    texts = [chr(ord("a") + n % LETTERS) * (1 + n % 90) + f" {n}" for n in range(2048)]
    found = embed(place, texts)
    assert [vector.index(max(vector)) for vector in found] == [n % LETTERS for n in range(2048)]
    assert embed(place, [list(map(ord, text)) for text in texts]) == found
    assert embed(place, ['"\\' + "a" * 200_000, "b"])[0] == expected("a")


def test_2048_texts_with_one_that_is_bad(place: Place) -> None:
    texts: list[Any] = ["fine"] * 2048
    for bad, param in (("boom", "input[1234]"), ("", "input[1234]"), (5, "input[1234]")):
        texts[1234] = bad
        status, body = raw(place, {"model": place.letters, "input": texts})
        assert (status, body["error"]["param"]) == (400, param), body
    assert embed(place, "fine") == [pytest.approx(expected("fine"), abs=1e-6)]


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"input": []}, "input", "at least one text"),
        ({"input": ""}, "input", "empty"),
        ({"input": ["a", ""]}, "input[1]", "empty"),
        ({"input": [[1], []]}, "input[1]", "at least one token"),
        ({"input": [[1], [-1]]}, "input[1]", "Tokens lie between"),
        ({"input": [[1], [1.5]]}, "input[1][0]", "Expected"),
        ({"input": [[1], "a"]}, "input", "whole numbers"),
        ({"input": ["a", [1]]}, "input[1]", "Expected"),
        ({"input": {"a": 1}}, "input", "Expected"),
        ({"input": None}, "input", "Expected"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"input": ["a" * 300] * 2049}, "input", "at most 2048"),
        ({"input": [[1]] * 2049}, "input", "at most 2048"),
        ({"encoding_format": "hex"}, "encoding_format", "Invalid enum value"),
        ({"dimensions": 0}, "dimensions", "Expected"),
        ({"colour": 1}, "colour", "'colour' is not known"),
        ({"model": 5}, "model", "Expected"),
    ],
)
def test_what_is_wrong_is_named(place: Place, change: dict[str, Any], param: str, said: str) -> None:
    status, body = raw(place, {"model": place.letters, "input": "a", **change})
    assert status == 400 and set(body) == {"error"}, body
    error = body["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    assert said in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[" * 100_000, "body"),
        (b'{"model": "x"}', "input"),
        (b'{"input": "a"}', "model"),
    ],
)
def test_what_is_no_request(place: Place, body: bytes, param: str) -> None:
    body = body.replace(b'"x"', json.dumps(place.letters).encode())
    status, answer = raw(place, body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_models_that_are_not_there_or_give_no_vectors(place: Place) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        place.client.embeddings.create(model="nobody", input="a")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        place.client.embeddings.create(model="a/b", input="a")
    with pytest.raises(openai.BadRequestError, match="does not give embeddings"):
        place.client.embeddings.create(model=place.echo, input="a")


def test_the_list_of_models_has_two_shapes(place: Place) -> None:
    document = call(f"{place.stack.url}/v1/models").body
    names = {one["name"] for one in document["models"]}
    assert {place.letters, place.echo} <= names
    listed = {model.id: model for model in place.client.models.list()}
    assert set(listed) == names
    one = place.client.models.retrieve(place.letters)
    assert (one.id, one.created) == (place.letters, listed[place.letters].created)
    assert (one.object, one.owned_by) == ("model", "headrace") and one.created > 1_700_000_000
    described = call(f"{place.stack.url}/v1/models/{place.letters}").body
    assert described["name"] == described["id"] == place.letters
    with pytest.raises(openai.NotFoundError):
        place.client.models.retrieve("nobody")

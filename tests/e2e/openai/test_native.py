"""Our own dialect for models that generate text: whole, and as events."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.stack import call


def asked(place: Place, document: Any, model: str = "", accept: str = "*/*") -> tuple[int, str, bytes]:
    url = f"{place.stack.url}/v1/models/{model or place.writer}/predict"
    headers = {"Content-Type": "application/json", "Accept": accept}
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.headers["content-type"], answer.read()


def test_a_text_is_generated(place: Place) -> None:
    document = {"generate": {"prompt": "again ", "max_tokens": 12, "temperature": 0}}
    for _ in range(3):  # the third one takes the express way
        _, kind, body = asked(place, document)
        answer = json.loads(body)
        assert kind == "application/json"
        assert answer["generated"]["choices"] == [{"index": 0, "text": "again again ", "finish_reason": "length"}]
        assert answer["generated"]["usage"] == {"prompt": 6, "generated": 12}


def test_it_comes_as_events(place: Place) -> None:
    document = {"generate": {"messages": [{"role": "user", "content": "again "}], "max_tokens": 12, "temperature": 0}}
    for _ in range(3):
        status, kind, body = asked(place, document, place.slow, "text/event-stream")
        assert (status, kind) == (200, "text/event-stream")
        *parts, done, rest = body.decode().split("\n\n")
        texts = [json.loads(part.partition("data: ")[2])["text"] for part in parts]
        assert "".join(texts) == "again again " and len(texts) > 2 and rest == ""
        assert done.startswith("event: done\n")
        whole = json.loads(done.partition("data: ")[2])
        assert whole["generated"]["choices"][0]["text"] == "again again "


def test_a_model_without_texts_answers_whole(place: Place) -> None:
    document = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "UINT8", "data": [1, 2]}]}
    _, kind, body = asked(place, document, place.echo, "text/event-stream")
    assert kind == "application/json" and json.loads(body)["outputs"][0]["data"] == [1, 2]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"generate": 5}, "generate"),
        ({"generate": {"prompt": "a", "stream": True}}, "generate.stream"),
        ({"generate": {"prompt": "a"}, "image_base64": "aaaa"}, "generate"),
        ({"generate": {"colour": 1, "prompt": "a"}}, "colour"),
        ({"generate": {}}, "prompt"),
    ],
)
def test_what_is_wrong_is_named(place: Place, document: Any, field: str) -> None:
    url = f"{place.stack.url}/v1/models/{place.writer}/predict"
    answer = call(url, json.dumps(document).encode(), "application/json")
    assert (answer.status, answer.body["error"]["field"]) == (422, field), answer.body

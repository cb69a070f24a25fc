"""Base64 as people have it is taken; what is none is refused with the sentence that says why."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from producer_api.parsing import base64_text
from producer_api.parsing.steps import at_once
from shared.wire.outcomes import INVALID_INPUT, RequestError
from tests.unit.producer_api.asgi import Api

JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
BYTES = bytes(range(256)) * 2 + b"\xfb\xff"  # with '+' and '/' in it, and padding after it
PLAIN = base64.b64encode(BYTES).decode()
AS_PEOPLE_HAVE_IT = {
    "in one piece": PLAIN,
    "in lines, as MIME has it": base64.encodebytes(BYTES).decode(),
    "in lines of Windows": base64.encodebytes(BYTES).decode().replace("\n", "\r\n"),
    "with spaces and tabs": f"  {PLAIN[:9]} \t{PLAIN[9:]} ",
    "url-safe": base64.urlsafe_b64encode(BYTES).decode(),
    "without padding": PLAIN.rstrip("="),
    "url-safe without padding": base64.urlsafe_b64encode(BYTES).decode().rstrip("="),
    "a data: URL": f"data:image/jpeg;base64,{PLAIN}",
    "a data: URL with parameters": f"DATA:image/png;charset=utf-8;BASE64,{PLAIN}",
    "a data: URL without a type, in lines": "data:;base64," + base64.encodebytes(BYTES).decode(),
}


@pytest.mark.parametrize("kind", AS_PEOPLE_HAVE_IT)
def test_what_people_have_is_taken(kind: str) -> None:
    assert at_once(base64_text.decode_in_steps(AS_PEOPLE_HAVE_IT[kind], "image_base64")) == BYTES


@pytest.mark.parametrize("length", range(12))
def test_every_length_is_taken_in_every_form(length: int) -> None:
    data = BYTES[-length:] if length else b""
    for text in (base64.urlsafe_b64encode(data).decode(), base64.b64encode(data).decode().rstrip("=") + "\n"):
        assert at_once(base64_text.decode_in_steps(text, "image_base64")) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data:image/jpeg,/9j/", "is a data: URL without base64; it must begin like data:image/jpeg;base64,"),
        ("data:image/jpeg;base64", "is a data: URL without base64"),
        ("data:" + "x" * 1000, "is a data: URL without base64"),
        ("AAAA\u00e4AAA", "it has '\u00e4' at character 4"),
        ("AAAA\u00a0AAA", "it has '\\xa0' at character 4"),
        ("AAAA\ud800AAA", "it has '\\ud800' at character 4"),
        ("AAAA%3D", "it has '%' at character 4"),
        ("AA==AAAA", "it goes on after '=', where it ends"),
        ("AAAAA", "it has 5 characters, so some are missing"),
        ("https://example.org/cat.jpg", "it has ':' at character 5"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        at_once(base64_text.decode_in_steps(text, "image_base64"))
    assert (caught.value.outcome, caught.value.field) == (INVALID_INPUT, "image_base64")
    assert reason in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("send", [Api.json, Api.msgpack], ids=["JSON", "msgpack"])
def test_a_data_url_is_taken_in_both_forms(api: Api, send: Any) -> None:
    answer = send(api, "imagenet", {"image_base64": "data:image/png;base64," + base64.encodebytes(JPEG).decode()})
    assert answer.status == 200
    assert api.queue.submitted[-1].content_type == "image/jpeg"  # the bytes decide
    assert api.queue.submitted[-1].body == JPEG


def test_base64_where_bytes_belong_is_refused_with_what_to_do(api: Api) -> None:
    text = base64.b64encode(JPEG)
    answers = [
        api.post("imagenet", text, "image/jpeg"),
        api.post("imagenet", b"data:image/jpeg;base64," + text, "image/jpeg"),
        api.msgpack("imagenet", {"image": text}),
        api.json("imagenet", {"image_base64": base64.b64encode(text).decode()}),
    ]
    for answer in answers:
        assert answer.status == 422
        assert "It is base64 text: send the bytes themselves" in answer.error["message"]

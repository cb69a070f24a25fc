"""Texts that come in parts, from a model that repeats its prompt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.client import AsyncClient, Client, HeadraceError
from headrace.client.events import Events
from tests.e2e.stack import Stack
from tests.helpers import eventually

ASKED: dict[str, Any] = {"max_tokens": 12, "temperature": 0}


def test_a_text_comes_in_parts(client: Client) -> None:
    parts = list(client.generate("client-writer", "again ", **ASKED))
    assert "".join(parts) == "again again " and len(parts) > 2
    messages = [{"role": "user", "content": "again "}]
    assert "".join(client.generate("client-writer", messages=messages, **ASKED)) == "again again "


def test_the_same_with_asyncio(stack: Stack) -> None:
    async def run() -> list[str]:
        async with AsyncClient(stack.url) as client:
            return [part async for part in client.generate("client-writer", "again ", **ASKED)]

    assert "".join(asyncio.run(run())) == "again again "


def test_leaving_the_loop_cancels(client: Client) -> None:
    texts = client.generate("client-writer", "again ", max_tokens=4000, ignore_end=True)
    assert next(texts)
    eventually(lambda: queued(client) == 1)
    texts.close()  # type: ignore[attr-defined]
    eventually(lambda: queued(client) == 0)


def queued(client: Client) -> int:
    return {one.name: one.queued for one in client.models()}["client-writer"]


def test_errors_are_raised(client: Client) -> None:
    wrong: tuple[dict[str, Any], ...] = ({"temperature": -1}, {"max_tokens": 0}, {"nonsense": 1})
    for asked in wrong:
        with pytest.raises(HeadraceError) as caught:
            list(client.generate("client-writer", "again ", **asked))
        assert caught.value.status in (400, 422)
    with pytest.raises(HeadraceError, match="does not generate text"):
        list(client.generate("client-echo", "again "))
    with pytest.raises(ValueError, match="either a prompt or messages"):
        client.generate("client-writer")


def test_a_whole_text_is_an_answer(client: Client) -> None:
    document = '{"generate": {"prompt": "again ", "max_tokens": 12, "temperature": 0}}'
    answer = client.predict("client-writer", document, content_type="application/json")
    assert answer.generated is not None
    assert answer.generated["choices"][0]["text"] == "again again "


def test_events_may_be_cut_anywhere() -> None:
    whole = b'id: 0\ndata: {"text":"a"}\n\n: quiet\n\nid: 1\ndata: {"text":"b"}\n\nevent: done\ndata: {}\n\n'
    for size in range(1, len(whole)):
        events = Events()
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [text for piece in pieces for text in events.read(piece)] == ["a", "b"]
        events.end()


def test_a_text_that_breaks_off_is_an_error() -> None:
    events = Events()
    assert events.read(b'data: {"text":"a"}\n\n') == ["a"]
    with pytest.raises(HeadraceError, match="before the text was whole"):
        events.end()
    with pytest.raises(HeadraceError, match="model_error: It failed"):
        events.read(b'event: error\ndata: {"error":{"code":"model_error","message":"It failed."}}\n\n')
    for wrong in (b"data: x\n\n", b"data: []\n\n", b'data: {"a":1}\n\n', b"data: \xff\n\n"):
        with pytest.raises(HeadraceError, match="bad_answer"):
            Events().read(wrong)

"""JSON Lines as they come in pieces."""

from __future__ import annotations

import json

import pytest

from producer_api.bulk.readers.items import Item
from producer_api.bulk.readers.jsonl import JsonLines, item_of
from shared.wire.outcomes import BODY_TOO_LARGE, INVALID_INPUT, MALFORMED


def read(upload: bytes, piece_bytes: int, most_line_bytes: int = 1000) -> list[Item]:
    reader = JsonLines(most_line_bytes)
    items: list[Item] = []
    for at in range(0, len(upload), piece_bytes):
        items += reader.feed(upload[at : at + piece_bytes])
    return [*items, *reader.close()]


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 10_000])
def test_lines_are_the_same_however_they_are_cut(piece_bytes: int) -> None:
    upload = b'\xef\xbb\xbf{"a": 1}\r\n\n{"id": "x", "body": {"b": 2}}\n  \n{"c": 3}'
    items = read(upload, piece_bytes)
    assert [(item.name, item.body) for item in items] == [("", b'{"a": 1}'), ("x", b'{"b": 2}'), ("", b'{"c": 3}')]
    assert {item.content_type for item in items} == {b"application/json"}


@pytest.mark.parametrize("piece_bytes", [3, 10_000])
def test_a_line_that_is_too_long_errs_alone(piece_bytes: int) -> None:
    items = read(b'{"a": 1}\n' + b"x" * 1001 + b'\n{"b": 2}\n', piece_bytes)
    assert [item.body for item in items] == [b'{"a": 1}', b"", b'{"b": 2}']
    assert items[1].error is not None
    assert items[1].error.outcome is BODY_TOO_LARGE
    assert "1001" in items[1].error.message


def test_nothing_of_a_line_that_is_too_long_is_held() -> None:
    reader = JsonLines(100)
    for _ in range(1000):
        assert list(reader.feed(b"x" * 100)) == []
        assert sum(map(len, reader._pieces)) <= 100


def test_a_line_of_openai_names_its_item() -> None:
    line = {"custom_id": "one", "method": "POST", "url": "/v1/models/m/predict", "body": {"inputs": []}}
    item = item_of(json.dumps(line).encode())
    assert (item.name, item.url, item.body, item.error) == ("one", "/v1/models/m/predict", b'{"inputs": []}', None)


@pytest.mark.parametrize(
    ("line", "field", "outcome"),
    [
        ({"id": 5, "body": {}}, "id", INVALID_INPUT),
        ({"id": "", "body": {}}, "id", MALFORMED),
        ({"id": "a" * 257, "body": {}}, "id", MALFORMED),
        ({"id": "a", "custom_id": "b", "body": {}}, "id", MALFORMED),
        ({"custom_id": "a", "method": "GET", "body": {}}, "method", MALFORMED),
        ({"id": "a", "body": {}, "more": 1}, "body", INVALID_INPUT),
    ],
)
def test_what_is_wrong_around_a_body_is_named(line: object, field: str, outcome: object) -> None:
    error = item_of(json.dumps(line).encode()).error
    assert error is not None
    assert (error.field, error.outcome) == (field, outcome)


def test_a_line_that_is_no_json_is_left_to_the_codec() -> None:
    assert item_of(b'{"inputs": [').body == b'{"inputs": ['
    assert item_of(b"[1, 2]").body == b"[1, 2]"

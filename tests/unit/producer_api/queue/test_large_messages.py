"""A message in pieces is the same bytes as one encoded in one piece."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from producer_api.queue.large_messages import encode_around_body
from shared.limits import LONGEST_MS
from shared.wire.messages import Request, decode_request, encode_request

names = some.text("abcXYZ019_-", min_size=1, max_size=64)


@given(
    request_id=names,
    reply_to=names,
    ttl_ms=some.integers(1, LONGEST_MS),
    content_type=some.text(max_size=80),
    body_bytes=some.integers(65_536, 70_000),
    params=some.dictionaries(some.text(max_size=8), some.one_of(some.integers(-9, 9), some.booleans()), max_size=3),
    traceparent=some.none() | some.text(max_size=60),
    keep_ms=some.none() | some.integers(1, LONGEST_MS),
)
def test_the_pieces_are_the_message(
    request_id: str,
    reply_to: str,
    ttl_ms: int,
    content_type: str,
    body_bytes: int,
    params: dict[str, int | bool],
    traceparent: str | None,
    keep_ms: int | None,
) -> None:
    body = b"x" * body_bytes
    others: dict[str, Any] = {"params": params, "traceparent": traceparent, "keep_ms": keep_ms}
    request = Request(request_id, ttl_ms, content_type, body, **others)
    pieces = encode_around_body(request, reply_to)
    assert pieces[1] is body
    assert b"".join(pieces) == encode_request(request, reply_to)
    assert decode_request(b"".join(pieces)).body == body


def test_a_request_without_a_body_has_no_pieces() -> None:
    with pytest.raises(ValueError, match="body"):
        encode_around_body(Request("a", 1, inputs=()), "me")

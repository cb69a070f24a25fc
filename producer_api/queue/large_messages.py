"""Encoding a request with a large body without copying the body."""

from __future__ import annotations

from typing import Any

from shared.wire.messages import VERSION, Request, pack


def encode_around_body(request: Request, reply_to: str) -> tuple[bytes, bytes, bytes]:
    """Encode as :func:`shared.wire.messages.encode_request` does, in three pieces; the middle one is the body itself.

    The format of the pieces is msgpack's: a map of up to 15 members is one byte 0x8n, a string of up to 31 bytes one
    byte and the string, and bytes (bin 32) are 0xc6 and four bytes of length.

    Args:
        request: one with a body.
        reply_to: as there.
    """
    body = request.body
    if body is None:
        raise ValueError("only a request with a body has one to go around")
    keep = {} if request.keep_ms is None else {"keep_ms": request.keep_ms}
    before = {"v": VERSION, "id": request.id, "ttl_ms": request.ttl_ms, **keep, "ct": request.content_type}
    after: dict[str, Any] = {"rt": reply_to}
    if request.params:
        after["params"] = request.params
    if request.traceparent is not None:
        after["tp"] = request.traceparent
    if request.urgent:
        after["urgent"] = True
    if request.explain:
        after["explain"] = True
    members = bytes((0x80 + len(before) + 1 + len(after),))
    head = members + pack(before)[1:] + b"\xa4body\xc6" + len(body).to_bytes(4, "big")
    return head, body, pack(after)[1:]

"""The dialect of this front end: ``POST /v1/models/{model}/predict``."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec

from producer_api.parsing.schemas import ErrorDetail, ErrorResponse
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.streaming.events import Streaming
from producer_api.streaming.plain_events import PlainWriter
from shared.state.cards import Card
from shared.wire.messages import Reply
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError

from .codec import Codec, Decoded, Head, Limits, Response
from .decoding import decode_in_steps, timeout_of
from .encoding import encode_reply, encode_reply_in_steps, is_large, json_encoder
from .negotiation import JSON, MSGPACK, RAW, body_type, choose, media_type

PATH = "/v1/models/{model}/predict"


class Native(Codec):
    """Pictures, raw tensor bytes, JSON or msgpack in; JSON, msgpack or events out; errors always in JSON."""

    def answer_type(self, head: Head) -> str:
        """See the interface."""
        return choose(head.accept)

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface."""
        encoding = head.content_encoding
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", field="Content-Encoding")
        return body_type(head.content_type, card.content_types)

    def timeout_ms(self, head: Head, body: bytes, limits: Limits) -> int:
        """See the interface."""
        if len(body) > LARGE_BYTES and not head.query:
            return limits.max_timeout_ms
        return timeout_of(media_type(head.content_type), body, head.query, limits)

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        if head.wants_events:
            return _streamed(kind, body, head, card, limits, generated_id)
        steps = decode_in_steps(kind, body, head.query, card, limits, generated_id, head.traceparent)
        return steps if len(body) > LARGE_BYTES and _is_read_through(kind, card) else at_once(steps)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        if not is_short and is_large(reply, media_type):
            return _encode_in_steps(reply, media_type, total_s)
        return Response(200, media_type, encode_reply(reply, total_s, media_type))

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        detail = ErrorDetail(error.outcome.code, error.message, error.field, error.request_id)
        return Response(error.outcome.status, JSON, json_encoder.encode(ErrorResponse(detail)))


NATIVE = Native()


def _streamed(kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str) -> Decoded:
    """Decode a request of a client that asks for events; answers that are not generated bit by bit it gets whole."""
    begun_s = perf_counter()

    def encode(reply: Reply) -> bytes:
        return encode_reply(reply, perf_counter() - begun_s, JSON)

    steps = decode_in_steps(kind, body, head.query, card, limits, generated_id, head.traceparent, is_streamed=True)
    decoded = at_once(steps)
    if not decoded.run_ms:
        return decoded
    writer = PlainWriter(encode, lambda error: NATIVE.error(error).body)
    return msgspec.structs.replace(decoded, streaming=Streaming(writer))


def _is_read_through(kind: str, card: Card) -> bool:
    """Say whether every byte of a body is looked at here; of pictures and whole numbers only their count is."""
    return kind in (JSON, MSGPACK) or (kind == RAW and any(spec.datatype.startswith("FP") for spec in card.inputs))


def _encode_in_steps(reply: Reply, media_type: str, total_s: float) -> Steps[Response]:
    return Response(200, media_type, (yield from encode_reply_in_steps(reply, total_s, media_type)))

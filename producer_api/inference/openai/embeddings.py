"""``POST /v1/embeddings``: vectors of texts.

https://platform.openai.com/docs/api-reference/embeddings/create.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from shared.state.cards import Card
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError

from .documents import NamedModelCodec, decoded, shortened
from .errors import encoded, of_member
from .pieces import cut
from .texts import request_of
from .vectors import check_gives_vectors, in_steps, tokens_of, vectors_of

PATH: Final = "/v1/embeddings"


class EmbeddingsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request; ``user`` is accepted and ignored."""

    model: str
    input: Annotated[
        msgspec.Raw,
        Meta(
            description="A text, a list of at most 2,048 texts, a list of tokens, or a list of such lists.",
            extra_json_schema={"type": ["string", "array"]},
        ),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    user: str | None = None


class Embedding(Struct, frozen=True):
    """The vector of one text: numbers, or little-endian FP32 in base64."""

    object: str
    index: int
    embedding: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["array", "string"]})]


class TextUsage(Struct, frozen=True):
    """Tokens of the texts; 0 where the model does not count them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Struct, frozen=True):
    """A vector for each text, in the order of the request."""

    object: str
    data: list[Embedding]
    model: str
    usage: TextUsage


class Asked(Struct, frozen=True):
    """What the answer depends on."""

    is_base64: bool
    dimensions: int | None


_decoder: Final = msgspec.json.Decoder(EmbeddingsRequest)


class Embeddings(NamedModelCodec):
    """Texts or tokens in, vectors out."""

    asked_type = Asked

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        steps = _decode_in_steps(body, head, card, limits, generated_id)
        return steps if len(body) > LARGE_BYTES else at_once(steps)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        steps = _encode_in_steps(reply, asked)
        return at_once(steps) if is_short or size_of(reply) <= LARGE_BYTES // 4 else steps

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        return encoded(of_member(error, "input"))


EMBEDDINGS: Final = Embeddings()


def _decode_in_steps(body: bytes, head: Head, card: Card, limits: Limits, generated_id: str) -> Steps[Decoded]:
    short = yield from shortened(body)
    asked = decoded(short.rest, _decoder)
    check_gives_vectors(card, asked.dimensions)
    raw = bytes(asked.input)
    request, rows = yield from request_of(short.cuts.get(raw, raw), card, "input")
    request = msgspec.structs.replace(
        request, id=generated_id, ttl_ms=limits.default_timeout_ms, traceparent=head.traceparent
    )
    made = Decoded(request, True, asked=Asked(asked.encoding_format == "base64", asked.dimensions))
    return cut(made, rows, card, can_be_cut=head.later is None, field="input")


def _encode_in_steps(reply: Reply, asked: Asked) -> Steps[Response]:
    texts = yield from in_steps(vectors_of(reply), asked.dimensions, is_base64=asked.is_base64)
    count = sum(tokens_of(reply))
    data = [Embedding("embedding", index, msgspec.Raw(text)) for index, text in enumerate(texts)]
    answer = EmbeddingsResponse("list", data, reply.model.name, TextUsage(count, count))
    return Response(200, JSON, json_encoder.encode(answer))

"""``POST /embed``: vectors of texts as text-embeddings-inference gives them.

https://huggingface.github.io/text-embeddings-inference/: ``{"inputs": […]}`` in, a list of vectors out.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import size_of
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from shared.state.cards import Card
from shared.wire.messages import Reply

from .documents import decoded, shortened
from .pieces import cut
from .servers import ServerCodec
from .texts import TRUNCATE, request_of
from .vectors import check_gives_vectors, in_steps, vectors_of

PATH: Final = "/embed"


class EmbedRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request. ``normalize: false`` gives the vectors as the model gives them."""

    inputs: Annotated[
        msgspec.Raw,
        Meta(
            description="A text, a list of texts, a list of tokens, or a list of such lists.",
            extra_json_schema={"type": ["string", "array"]},
        ),
    ]
    model: str | None = None
    truncate: bool | None = None
    normalize: bool = True
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None


class EmbedAsked(Struct, frozen=True):
    """What the answer depends on."""

    dimensions: int | None
    normalize: bool


_decoder: Final = msgspec.json.Decoder(EmbedRequest)


class Embed(ServerCodec):
    """Texts in, a list of vectors out."""

    asked_type = EmbedAsked

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


def _decode_in_steps(body: bytes, head: Head, card: Card, limits: Limits, generated_id: str) -> Steps[Decoded]:
    short = yield from shortened(body)
    asked = decoded(short.rest, _decoder)
    check_gives_vectors(card, asked.dimensions)
    raw = bytes(asked.inputs)
    request, rows = yield from request_of(short.cuts.get(raw, raw), card, "inputs")
    request = msgspec.structs.replace(
        request,
        id=generated_id,
        ttl_ms=limits.default_timeout_ms,
        params={TRUNCATE: True} if asked.truncate else {},
        traceparent=head.traceparent,
    )
    made = Decoded(request, True, asked=EmbedAsked(asked.dimensions, asked.normalize))
    return cut(made, rows, card, can_be_cut=head.later is None, field="inputs")


def _encode_in_steps(reply: Reply, asked: EmbedAsked) -> Steps[Response]:
    texts = yield from in_steps(vectors_of(reply), asked.dimensions, is_base64=False, normalizes=asked.normalize)
    return Response(200, JSON, b"[%b]" % b",".join(texts))

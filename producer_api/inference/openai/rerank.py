"""``POST /rerank``: texts ordered by how well they fit a query, as Cohere and text-embeddings-inference have it.

https://docs.cohere.com/reference/rerank (``documents``), https://huggingface.github.io/text-embeddings-inference/
(``texts``). A model that takes pairs of texts scores each pair. Of one that gives vectors, the score is the cosine of
the angle between the query's and the text's.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from shared.state.cards import Card
from shared.wire.messages import Reply, Request, Tensor
from shared.wire.outcomes import invalid

from .documents import decoded
from .pieces import cut
from .scores import scores_of
from .servers import ServerCodec
from .texts import MOST_TEXTS, TRUNCATE, encoded_texts, of_texts
from .vectors import check_gives_vectors, tokens_of

PATHS: Final = ("/rerank", "/v1/rerank", "/v2/rerank")

_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of a request: its texts are decoded at once."""


class Document(Struct, frozen=True):
    """A text within an object, as Cohere has it."""

    text: str


class RerankRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request: ``documents`` as Cohere has it, or ``texts`` as text-embeddings-inference has it."""

    query: str
    documents: list[str | Document] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    return_text: bool = False
    raw_scores: bool = False
    truncate: bool | None = None


class RankedDocument(Struct, frozen=True):
    """A text with its place in the request, as Cohere has it."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RankedText(Struct, frozen=True):
    """A text with its place in the request, as text-embeddings-inference has it."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class RerankUsage(Struct, frozen=True):
    """Tokens of query and texts; 0 where the model does not count them."""

    total_tokens: int


class RerankResponse(Struct, frozen=True):
    """The texts that fit best, the best first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage


class RerankAsked(Struct, frozen=True):
    """What the answer depends on; ``texts`` only where they are sent back."""

    is_of_documents: bool
    is_of_pairs: bool
    most: int
    texts: list[str] | None


_decoder: Final = msgspec.json.Decoder(RerankRequest)


class Rerank(ServerCodec):
    """A query and texts in, the texts' scores out, in their order."""

    asked_type = RerankAsked

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        if len(body) > _MOST_BYTES:
            raise invalid(f"A request to rerank has at most {_MOST_BYTES} bytes, not {len(body)}.", "body")
        asked = decoded(body, _decoder)
        texts, field = _texts(asked)
        request, is_of_pairs = _request_of(asked.query, texts, card, field)
        request = msgspec.structs.replace(
            request,
            id=generated_id,
            ttl_ms=limits.default_timeout_ms,
            params={TRUNCATE: True} if asked.truncate else {},
            traceparent=head.traceparent,
        )
        sent_back = texts if asked.return_documents or asked.return_text else None
        most = len(texts) if asked.top_n is None else min(asked.top_n, len(texts))
        made = Decoded(request, True, asked=RerankAsked(field == "documents", is_of_pairs, most, sent_back))
        rows = len(texts) + (not is_of_pairs)
        return cut(made, rows, card, can_be_cut=head.later is None, field=field)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        steps = _encode_in_steps(reply, asked)
        return at_once(steps) if is_short or size_of(reply) <= LARGE_BYTES // 4 else steps


def _texts(asked: RerankRequest) -> tuple[list[str], str]:
    if (asked.documents is None) == (asked.texts is None):
        raise invalid("A request has either documents or texts.", "documents")
    field = "texts" if asked.documents is None else "documents"
    given = asked.texts if asked.documents is None else asked.documents
    texts = [one if isinstance(one, str) else one.text for one in given or ()]
    if not asked.query:
        raise invalid("The query must not be empty.", "query")
    if not 1 <= len(texts) < MOST_TEXTS:
        raise invalid(f"A request has 1 to {MOST_TEXTS - 1} texts, not {len(texts)}.", field)
    for index, text in enumerate(texts):
        if not text:
            raise invalid("A text must not be empty.", f"{field}[{index}]")
    return texts, field


def _request_of(query: str, texts: list[str], card: Card, field: str) -> tuple[Request, bool]:
    """Return a message, and whether each of its rows is a pair."""
    specs = card.inputs
    if len(specs) == 2 and all(spec.datatype == "BYTES" and not spec.shape for spec in specs):
        shape, queries = (len(texts),), encoded_texts([query]) * len(texts)
        columns = (queries, encoded_texts(texts))
        pairs = zip(specs, columns, strict=True)
        return Request("", 1, inputs=tuple(Tensor(spec.name, "BYTES", shape, data) for spec, data in pairs)), True
    check_gives_vectors(card, None)
    return of_texts([query, *texts], card, field), False


def _encode_in_steps(reply: Reply, asked: RerankAsked) -> Steps[Response]:
    scores = yield from scores_of(reply, is_of_pairs=asked.is_of_pairs)
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: asked.most]
    if asked.is_of_documents:
        documents = [
            RankedDocument(index, scores[index], UNSET if asked.texts is None else Document(asked.texts[index]))
            for index in best
        ]
        usage = RerankUsage(sum(tokens_of(reply)))
        answer: Any = RerankResponse(reply.id, reply.model.name, documents, usage)
    else:
        answer = [
            RankedText(index, scores[index], UNSET if asked.texts is None else asked.texts[index]) for index in best
        ]
    return Response(200, JSON, json_encoder.encode(answer))

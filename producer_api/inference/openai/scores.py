"""How well texts fit a query, out of a reply: scores of pairs, or the angles between vectors. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from producer_api.parsing.elements import unpack_elements
from producer_api.parsing.steps import Steps
from shared.state.cards import ITEM_BYTES
from shared.wire.messages import Reply
from shared.wire.outcomes import MODEL_ERROR, RequestError

from .vectors import FLOATS, vectors_of

_ROWS_AT_ONCE = 16


def scores_of(reply: Reply, *, is_of_pairs: bool) -> Steps[list[float]]:
    """Return a score for each text.

    Args:
        is_of_pairs: each row of the reply is a pair's score; else the first is the query's vector, and others follow.

    Raises:
        RequestError: ``MODEL_ERROR``: the reply has no scores, or some that are not finite.
    """
    scores = _of_pairs(reply) if is_of_pairs else (yield from _of_vectors(reply))
    if not all(map(math.isfinite, scores)):
        raise RequestError(MODEL_ERROR, "The model gave scores that are not finite.", request_id=reply.id)
    return scores


def _of_pairs(reply: Reply) -> list[float]:
    for tensor in reply.outputs or ():
        if tensor.datatype in FLOATS and math.prod(tensor.shape[1:]) == 1:
            return [math.nan if one is None else one for one in unpack_elements(tensor.datatype, tensor.data)]
    raise RequestError(MODEL_ERROR, "The model gave no scores.", request_id=reply.id)


def _of_vectors(reply: Reply) -> Steps[list[float]]:
    vectors = vectors_of(reply)
    size = ITEM_BYTES[vectors.datatype] * vectors.shape[1]
    query: Sequence[float] = ()
    scores: list[float] = []
    for start in range(0, len(vectors.data), size):
        row = unpack_elements(vectors.datatype, vectors.data[start : start + size])
        if None in row:
            raise RequestError(MODEL_ERROR, "The model gave vectors that are not finite.", request_id=reply.id)
        if not start:
            query = row
            continue
        scores.append(_cosine(query, row))
        if len(scores) % _ROWS_AT_ONCE == 0:
            yield
    return scores


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other) or 1.0)

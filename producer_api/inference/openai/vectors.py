"""The vectors of a reply: found among its outputs, shortened, and written as numbers or as base64. Pure."""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterator
from typing import Final

from producer_api.inference.encoding import json_encoder
from producer_api.parsing.elements import pack_elements, unpack_elements
from producer_api.parsing.steps import Steps
from shared.state.cards import ITEM_BYTES, Card
from shared.wire.messages import Reply, Tensor
from shared.wire.outcomes import MODEL_ERROR, RequestError, invalid

TOKENS: Final = "tokens"
"""The output that says how many tokens each text has."""

FLOATS: Final = ("FP32", "FP16", "FP64")
_ROWS_AT_ONCE: Final = 16


def check_gives_vectors(card: Card, dimensions: int | None) -> None:
    """See that a model's outputs have a vector for each row.

    Raises:
        RequestError: ``INVALID_INPUT``: they have none, or a shorter one than is asked for.
    """
    size = next((spec.shape[0] for spec in card.outputs if spec.datatype in FLOATS and len(spec.shape) == 1), None)
    if size is None or card.labels is not None:
        raise invalid(f"The model {card.name} does not give embeddings.", "model")
    if dimensions is not None and 0 <= size < dimensions:
        raise invalid(f"The model gives {size} dimensions, which are fewer than {dimensions}.", "dimensions")


def vectors_of(reply: Reply) -> Tensor:
    """Return the output that holds a vector for each row.

    Raises:
        RequestError: ``MODEL_ERROR``: there is none.
    """
    for tensor in reply.outputs or ():
        if tensor.datatype in FLOATS and len(tensor.shape) == 2:
            return tensor
    raise RequestError(MODEL_ERROR, "The model gave no vectors.", request_id=reply.id)


def tokens_of(reply: Reply) -> list[int]:
    """Return how many tokens each row had; empty where the model does not say."""
    for tensor in reply.outputs or ():
        if tensor.name == TOKENS and not tensor.datatype.startswith(("FP", "BYTES")):
            return unpack_elements(tensor.datatype, tensor.data)
    return []


def in_steps(
    vectors: Tensor, dimensions: int | None, *, is_base64: bool, normalizes: bool = False
) -> Steps[list[bytes]]:
    """Write the vector of each row as JSON, with pauses.

    Args:
        vectors: shape [rows, size].
        dimensions: keep so many numbers of each, and give it the length 1 again; None for all.
        is_base64: write little-endian FP32 in base64, as OpenAI's clients ask, instead of a list of numbers.
        normalizes: give every vector the length 1.
    """
    texts: list[bytes] = []
    for row in _rows(vectors):
        datatype = vectors.datatype
        if normalizes or (dimensions is not None and dimensions < vectors.shape[1]):
            datatype, row = "FP32", _of_length_1(datatype, row, dimensions or vectors.shape[1])
        if is_base64:
            if datatype != "FP32":
                row = pack_elements("FP32", _numbers(datatype, row))
            texts.append(b'"%b"' % binascii.b2a_base64(row, newline=False))
        else:
            texts.append(json_encoder.encode(unpack_elements(datatype, row)))
        if len(texts) % _ROWS_AT_ONCE == 0:
            yield
    return texts


def _rows(vectors: Tensor) -> Iterator[bytes]:
    size = ITEM_BYTES[vectors.datatype] * vectors.shape[1]
    for row in range(vectors.shape[0]):
        yield vectors.data[row * size : (row + 1) * size]


def _numbers(datatype: str, row: bytes) -> list[float]:
    return [math.nan if value is None else value for value in unpack_elements(datatype, row)]


def _of_length_1(datatype: str, row: bytes, dimensions: int) -> bytes:
    """Cut a vector and give it the length 1, as OpenAI does."""
    values = _numbers(datatype, row[: ITEM_BYTES[datatype] * dimensions])
    length = math.sqrt(math.fsum(value * value for value in values)) or 1.0
    return pack_elements("FP32", [value / length for value in values])

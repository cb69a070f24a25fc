"""A model's card: what a front end knows of a model it never loads.

A consumer publishes the card in Redis as a hash whose values are JSON, so that ``redis-cli HGETALL`` reads well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

ITEM_BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "FP16": 2,
    "UINT32": 4,
    "INT32": 4,
    "FP32": 4,
    "UINT64": 8,
    "INT64": 8,
    "FP64": 8,
}
"""Bytes of one element per datatype (names as in the Open Inference Protocol). BYTES has no fixed size."""


TOKEN = "token"
"""The unit of models that take texts: what a lane's limit in prompt tokens is for."""

ANSWER = "answer"
TENSORS = "tensors"
PREDICTIONS = "predictions"
"""A request whose ``params`` have ``answer: tensors`` asks for the model's outputs instead of predictions."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output: ``shape`` leaves out the batch dimension, -1 allows any size there."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def row_bytes(self) -> int | None:
        """Bytes of one row, or None when a dimension is free or the datatype has no fixed size."""
        item = ITEM_BYTES.get(self.datatype)
        if item is None or any(size < 0 for size in self.shape):
            return None
        return item * math.prod(self.shape)

    def step_bytes(self) -> int:
        """Bytes that every length is a multiple of, even where a dimension is free."""
        return ITEM_BYTES.get(self.datatype, 1) * math.prod(size for size in self.shape if size > 0)


HANDLED = (TensorSpec("body", "BYTES", ()), TensorSpec("content_type", "BYTES", ()))
"""The outputs of a model whose answers are bytes with a media type, as a handler of TorchServe makes them: a front end
sends them as they are where it speaks TorchServe's dialect."""

TYPE_OF = "content_type."
"""Of a request to such a model: ``params`` with this in front of an input's name say that one's media type."""


HEADER = "header."
"""The same in front of the name of a header that came with the request, in lower case."""


class BatchSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a consumer batches: at most ``max_batch`` rows, or what came within ``window_ms`` of the first.

    Attributes:
        policy: ``adaptive`` or ``window``.
        preferred: rows beyond which a batch gets hardly more done, as measured at warm-up.
        fixed_ms, per_row_ms: what a batch costs, as measured at warm-up; the metrics have what it costs now.
        unit: what the cost grows with: ``row``, or what the model counts, such as ``token``; ``per_row_ms`` is then
            that of a row of its samples. None on the card of an older consumer, as are the other two.
        max_units: most units of a batch; None where only its rows are limited.
        per_unit_ms: what each unit adds.
    """

    max_batch: int
    window_ms: float
    policy: str
    preferred: int | None = None
    fixed_ms: float | None = None
    per_row_ms: float | None = None
    unit: str | None = None
    max_units: int | None = None
    per_unit_ms: float | None = None


class CacheSettings(msgspec.Struct, frozen=True):
    """What front ends may keep of a model's answers.

    Attributes:
        ttl_s: for how long, in s.
        limit_bytes: how much of them each front end keeps.
        scope: ``key`` if an answer is only for the API key that asked for it, ``all`` if it is for everybody.
    """

    ttl_s: float
    limit_bytes: int
    scope: str = "key"


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that a model answered before it reported ready, as a client may send it over HTTP.

    Attributes:
        content_type: of the body.
        body: text, or base64 where the bytes are none.
        is_base64: whether it is.
    """

    content_type: str
    body: str
    is_base64: bool = False


class Trial(msgspec.Struct, frozen=True, omit_defaults=True):
    """A runtime and a precision that were tried for a model on a machine.

    Attributes:
        rows_per_s: of one consumer, at the batch size that suits it best; None when it did not come to that.
        batch: that size.
        outcome: one sentence: chosen, or why not.
    """

    runtime: str
    precision: str
    outcome: str
    rows_per_s: float | None = None
    batch: int | None = None


class Tuning(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model got its runtime.

    Attributes:
        state: ``searching`` before and during a search, ``tuned``, ``refused`` if the runtime that was named, or the
            result, is not used, or ``plain`` if torch stays.
        reason: one sentence.
        trials: everything that was tried, in order.
        batching: one sentence where batches gain little; else empty.
    """

    state: str
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    batching: str = ""


class Card(msgspec.Struct, frozen=True):
    """What the world may know of a model.

    Attributes:
        precision: the one in force, never ``auto``.
        labels: None unless the model is a classifier.
        runtime: the library that runs it: ``torch``, ``onnxruntime``, …; empty where the model is code of its own.
        tuning: how it came to that; None where there was no choice.
        precision_reason: one sentence on why it runs in this precision.
        example: a request to copy; None where none is known that is short enough.
        answers: what its answers can hold: ``predictions``, ``tensors``, or either as a request asks; empty on the card
            of an older consumer.
        task: what it does with texts: ``embedding``, ``classification`` or ``reranking``; else empty.
        context: most tokens of a text; None where it takes no texts.
        dimensions: numbers of a vector, of a model that makes vectors of texts; else None.
        pooling: how it makes them of the vectors of tokens: ``mean``, ``cls`` or ``last``; else empty.
        normalize: whether they all have the length 1; None for other models.
        cache: what front ends may keep of its answers; None for nothing.
    """

    name: str
    version: str
    family: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    content_types: tuple[str, ...]
    precision: str
    device: str
    batch: BatchSettings
    labels: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    runtime: str = ""
    tuning: Tuning | None = None
    precision_reason: str = ""
    example: Example | None = None
    answers: tuple[str, ...] = ()
    task: str = ""
    context: int | None = None
    dimensions: int | None = None
    pooling: str = ""
    normalize: bool | None = None
    cache: CacheSettings | None = None


MOST_FIELD_BYTES = 4 * 1024 * 1024
"""Longest field of a card that is decoded; twenty thousand labels take a tenth."""


def to_hash(card: Card) -> dict[str, bytes]:
    """Encode a card as the fields of its Redis hash; each value is JSON."""
    return {field: msgspec.json.encode(value) for field, value in msgspec.structs.asdict(card).items()}


def from_hash(fields: Mapping[bytes, bytes]) -> Card:
    """Decode the fields of a card's hash; fields this version does not know are ignored.

    Raises:
        ValueError: a field is missing or malformed.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Card):
        text = fields.get(field.name.encode())
        if text is None:
            continue
        if len(text) > MOST_FIELD_BYTES:
            raise ValueError(f"{field.name} takes {len(text)} bytes, and at most {MOST_FIELD_BYTES} are read")
        values[field.name] = msgspec.json.decode(text, type=field.type)
    return msgspec.convert(values, Card)

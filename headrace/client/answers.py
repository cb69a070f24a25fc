"""Answers as programs read them: predictions, arrays, durations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.wire.messages import Prediction, Reply, Tensor

from .tensors import array_of


class Span(msgspec.Struct, frozen=True):
    """A part of the time that a request took; docs/rest.md says what each name covers."""

    name: str
    ms: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a request went.

    Attributes:
        queue_ms: in the queue.
        batch_wait_ms: waiting for its batch, decoding of pictures included.
        inference_ms: in the model.
        total_ms: as the front end measured it; of a :class:`Stream`, as this process did.
        batch_size: rows of the batch that it ran in.
        worker, batch, closed, attempt, spans, first_token_ms, note: of a request with ``explain``: which consumer and
            batch, why the batch closed, how often it was tried, where all of the time went, when a generation had its
            first token, and a sentence if the spans do not add up.
    """

    queue_ms: float = 0.0
    batch_wait_ms: float = 0.0
    inference_ms: float = 0.0
    total_ms: float = 0.0
    batch_size: int = 0
    worker: str = ""
    batch: str = ""
    closed: str = ""
    attempt: int = 1
    spans: tuple[Span, ...] = ()
    first_token_ms: float | None = None
    note: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one request.

    Attributes:
        id: of the request.
        model, version: what answered.
        timing: durations in milliseconds.
        predictions: of a classifier, best first; else empty.
        tensors: of other models, as bytes; ``outputs`` has them as arrays.
        generated: of a model that generates text, as docs/rest.md describes it.
        warnings: what you should know about the model, such as that its weights are random.
    """

    id: str
    model: str
    version: str
    timing: Timing
    predictions: Sequence[Prediction] = ()
    tensors: Sequence[Tensor] = ()
    generated: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()

    @property
    def outputs(self) -> dict[str, Any]:
        """The tensors by name: arrays of numpy, rows first; without numpy nested lists.

        Elements of BYTES are ``bytes``, in an array of objects.
        """
        return {tensor.name: array_of(tensor) for tensor in self.tensors}


def of_reply(reply: Reply, total_s: float) -> Answer:
    """Make an answer of what a consumer replied."""
    took = reply.timing
    timing = Timing(
        queue_ms=took.queue / 1000,
        batch_wait_ms=took.wait / 1000,
        inference_ms=took.run / 1000,
        total_ms=round(total_s * 1000, 3),
        batch_size=took.batch,
    )
    return Answer(
        id=reply.id,
        model=reply.model.name,
        version=reply.model.version,
        timing=timing,
        predictions=tuple(reply.predictions or ()),
        tensors=tuple(reply.outputs or ()),
        generated=None if reply.generated is None else msgspec.to_builtins(reply.generated),
        warnings=tuple(reply.warnings),
    )


class Body(msgspec.Struct, frozen=True):
    """An answer of the front end, as msgpack has it."""

    id: str
    model: str
    version: str
    timing: Timing
    predictions: tuple[Prediction, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None
    generated: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def answer(self) -> Answer:
        """Return it as users have it."""
        return Answer(
            id=self.id,
            model=self.model,
            version=self.version,
            timing=self.timing,
            predictions=self.predictions or (),
            tensors=self.outputs or (),
            generated=self.generated,
            warnings=self.warnings,
        )

"""From a consumer's reply to the body of a response."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from producer_api.parsing.elements import element_parts, unpack_elements
from producer_api.parsing.schemas import OutputTensor, PredictionOut, PredictResponse, TimingOut
from producer_api.parsing.steps import LARGE_BYTES, Steps
from shared.wire.messages import Prediction, Reply, Tensor

from .explained import timing_of
from .negotiation import JSON

json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()


ELEMENTS_AT_ONCE = 8192
TEXTS_AT_ONCE = 1024
PREDICTIONS_AT_ONCE = 2048
"""What one step encodes, in about a millisecond."""

PREDICTION_BYTES = 100


def is_large(reply: Reply, media_type: str) -> bool:
    """Say whether encoding a reply takes so long that others should not wait for it."""
    return media_type == JSON and (
        len(reply.predictions or ()) > PREDICTIONS_AT_ONCE or (bool(reply.outputs) and size_of(reply) > LARGE_BYTES)
    )


def size_of(reply: Reply) -> int:
    """Return about how many bytes a reply takes."""
    predictions = PREDICTION_BYTES * len(reply.predictions or ())
    return sum([len(tensor.data) for tensor in reply.outputs or ()], predictions)


def encode_reply(reply: Reply, total_s: float, media_type: str) -> bytes:
    """Encode a reply without a fault at once, see :func:`encode_reply_in_steps`."""
    return _encode(
        reply,
        total_s,
        media_type,
        UNSET if reply.predictions is None else _predictions(reply.predictions, any(p.row for p in reply.predictions)),
        UNSET if reply.outputs is None else [_output(tensor, media_type == JSON) for tensor in reply.outputs],
    )


def encode_reply_in_steps(reply: Reply, total_s: float, media_type: str) -> Steps[bytes]:
    """Encode a reply without a fault, with pauses in JSON.

    Args:
        reply: what the consumer said.
        total_s: seconds the request has spent in this process, waiting included.
        media_type: one of ``negotiation.OFFERED``.
    """
    if media_type != JSON:
        return encode_reply(reply, total_s, media_type)
    frame = Frame()
    predictions: Any = UNSET
    if reply.predictions is not None:
        some, has_rows = reply.predictions, any(one.row for one in reply.predictions)
        starts = range(0, len(some), PREDICTIONS_AT_ONCE)
        predictions = yield from frame.takes(
            json_encoder.encode(_predictions(some[at : at + PREDICTIONS_AT_ONCE], has_rows)) for at in starts
        )
    outputs: Any = UNSET
    if reply.outputs is not None:
        outputs = []
        for tensor in reply.outputs:
            parts = element_parts(tensor.datatype, tensor.data, ELEMENTS_AT_ONCE, TEXTS_AT_ONCE)
            pieces = (json_encoder.encode(unpack_elements(tensor.datatype, part)) for part in parts)
            data = yield from frame.takes(pieces)
            outputs.append(OutputTensor(tensor.name, tensor.datatype, list(tensor.shape), data))
    return frame.filled(_encode(reply, total_s, media_type, predictions, outputs))


class Frame:
    """An answer without its long lists, which are put into it at the end: all are copied once."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(16).encode()
        self._lists: list[list[bytes]] = []

    def takes(self, pieces: Iterable[bytes]) -> Steps[msgspec.Raw]:
        """Take a list in pieces, each a list in JSON, with a pause after each; returns what stands for it."""
        texts: list[bytes] = []
        for piece in pieces:
            texts += (b"," if texts else b"[", piece[1:-1])
            yield
        texts.append(b"]" if texts else b"[]")
        self._lists.append(texts)
        return msgspec.Raw(b'"%b"' % self._name)

    def filled(self, frame: bytes) -> bytes:
        """Return the answer with the lists in their places, which come in the order in which they were taken."""
        first, *others = frame.split(b'"%b"' % self._name)
        parts = [first]
        for texts, part in zip(self._lists, others, strict=True):
            parts += (*texts, part)
        return b"".join(parts)


def _encode(reply: Reply, total_s: float, media_type: str, predictions: Any, outputs: Any) -> bytes:
    as_json = media_type == JSON
    timing = reply.timing
    told = TimingOut(timing.queue / 1000, timing.wait / 1000, timing.run / 1000, round(total_s * 1000, 3), timing.batch)
    response = PredictResponse(
        id=reply.id,
        model=reply.model.name,
        version=reply.model.version,
        predictions=predictions,
        outputs=outputs,
        generated=UNSET if reply.generated is None else reply.generated,
        timing=told if reply.ran is None else timing_of(reply, reply.ran, told),
        warnings=list(reply.warnings) if reply.warnings else UNSET,
    )
    return json_encoder.encode(response) if as_json else _msgpack_encoder.encode(response)


def _predictions(predictions: Sequence[Prediction], has_rows: bool) -> list[PredictionOut]:
    if has_rows:
        return [PredictionOut(p.label, p.index, p.score, p.row) for p in predictions]
    return [PredictionOut(p.label, p.index, p.score) for p in predictions]


def _output(tensor: Tensor, as_json: bool) -> OutputTensor:
    data = unpack_elements(tensor.datatype, tensor.data) if as_json else tensor.data
    return OutputTensor(tensor.name, tensor.datatype, list(tensor.shape), data)

"""From a consumer's reply to the body of a response."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from shared.wire import Prediction, Reply, Tensor

from .elements import unpack_elements
from .negotiation import JSON
from .schemas import OutputTensor, PredictionOut, PredictResponse, TimingOut

json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()


def encode_reply(reply: Reply, total_s: float, media_type: str) -> bytes:
    """Encode a reply without a fault.

    Args:
        reply: what the consumer said.
        total_s: seconds the request has spent in this process, waiting included.
        media_type: one of ``negotiation.OFFERED``.
    """
    as_json = media_type == JSON
    timing = reply.timing
    response = PredictResponse(
        id=reply.id,
        model=reply.model.name,
        version=reply.model.version,
        predictions=UNSET if reply.predictions is None else _predictions(reply.predictions),
        outputs=UNSET if reply.outputs is None else [_output(tensor, as_json) for tensor in reply.outputs],
        timing=TimingOut(
            timing.queue / 1000, timing.wait / 1000, timing.run / 1000, round(total_s * 1000, 3), timing.batch
        ),
        warnings=list(reply.warnings) if reply.warnings else UNSET,
    )
    return json_encoder.encode(response) if as_json else _msgpack_encoder.encode(response)


def _predictions(predictions: Sequence[Prediction]) -> list[PredictionOut]:
    if any(p.row for p in predictions):
        return [PredictionOut(p.label, p.index, p.score, p.row) for p in predictions]
    return [PredictionOut(p.label, p.index, p.score) for p in predictions]


def _output(tensor: Tensor, as_json: bool) -> OutputTensor:
    data = unpack_elements(tensor.datatype, tensor.data) if as_json else tensor.data
    return OutputTensor(tensor.name, tensor.datatype, list(tensor.shape), data)

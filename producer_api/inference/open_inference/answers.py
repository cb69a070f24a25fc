"""From output tensors to the body of an answer over REST: JSON, and behind it what was asked for in binary. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from producer_api.inference.codec import Response
from producer_api.inference.encoding import ELEMENTS_AT_ONCE, TEXTS_AT_ONCE, Frame, json_encoder
from producer_api.inference.negotiation import JSON, RAW
from producer_api.parsing.elements import element_parts, unpack_elements
from producer_api.parsing.steps import LARGE_BYTES, Steps
from producer_api.queue.admission import numbered
from shared.wire.messages import Reply, Tensor

from .bodies import HEADER_LENGTH, deflate_in_steps
from .core import Asked, tensors_of
from .documents import BinarySize, InferredOutput, InferResponse


class AskedOverRest(msgspec.Struct, frozen=True):
    """What a request over REST wants of its answer.

    Attributes:
        coding: how the answer is compressed; None for not at all.
    """

    asked: Asked
    coding: str | None = None


def answer(reply: Reply, asked: Asked) -> Response:
    """Encode a reply without a fault at once and uncompressed.

    Raises:
        RequestError: as ``core.tensors_of``.
    """
    outputs, parts = list[InferredOutput](), [b""]
    for output, tensor in zip(asked.outputs, tensors_of(reply, asked), strict=True):
        if output.is_binary:
            outputs.append(_binary(tensor))
            parts.append(tensor.data)
        else:
            outputs.append(_in_json(tensor, unpack_elements(tensor.datatype, tensor.data)))
    parts[0] = _document(reply, asked, outputs)
    return _response(parts, b"".join(parts))


def answer_in_steps(reply: Reply, wanted: AskedOverRest) -> Steps[Response]:
    """Encode a reply without a fault, with pauses where long tensors become JSON, or anything is compressed.

    Raises:
        RequestError: as ``core.tensors_of``.
    """
    asked, frame = wanted.asked, Frame()
    outputs, parts = list[InferredOutput](), [b""]
    for output, tensor in zip(asked.outputs, tensors_of(reply, asked), strict=True):
        if output.is_binary:
            outputs.append(_binary(tensor))
            parts.append(tensor.data)
        else:
            outputs.append(_in_json(tensor, (yield from _elements(tensor, frame))))
    parts[0] = frame.filled(_document(reply, asked, outputs))
    if wanted.coding is None:
        return _response(parts, b"".join(parts))
    response = _response(parts, (yield from deflate_in_steps(parts, wanted.coding)))
    response.headers = (*response.headers, (b"content-encoding", wanted.coding.encode()))
    return response


def _binary(tensor: Tensor) -> InferredOutput:
    return InferredOutput(tensor.name, tensor.datatype, tensor.shape, BinarySize(len(tensor.data)))


def _in_json(tensor: Tensor, data: object) -> InferredOutput:
    return InferredOutput(tensor.name, tensor.datatype, tensor.shape, UNSET, data)


def _document(reply: Reply, asked: Asked, outputs: list[InferredOutput]) -> bytes:
    model = reply.model
    return json_encoder.encode(
        InferResponse(
            model_name=model.name, model_version=numbered(model.version), id=asked.client_id or UNSET, outputs=outputs
        )
    )


def _elements(tensor: Tensor, frame: Frame) -> Steps[object]:
    if len(tensor.data) <= LARGE_BYTES:
        return unpack_elements(tensor.datatype, tensor.data)
    parts = element_parts(tensor.datatype, tensor.data, ELEMENTS_AT_ONCE, TEXTS_AT_ONCE)
    return (yield from frame.takes(json_encoder.encode(unpack_elements(tensor.datatype, part)) for part in parts))


def _response(parts: Sequence[bytes], body: bytes) -> Response:
    if len(parts) == 1:
        return Response(200, JSON, body)
    return Response(200, RAW, body, ((HEADER_LENGTH, b"%d" % len(parts[0])),))

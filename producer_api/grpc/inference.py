"""The codec of ``ModelInfer``: protobuf messages in and out, around what REST has of the protocol, too. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from producer_api.inference.codec import Codec, Decoded, Head, Limits, Response
from producer_api.inference.open_inference.core import Asked, Wanted, check_outputs, request_in_steps, tensors_of
from producer_api.inference.open_inference.documents import unsupported
from producer_api.parsing.schemas import BinaryTensor
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.queue.admission import numbered
from shared.state.cards import Card
from shared.wire.messages import Reply, WireError, check_shape
from shared.wire.outcomes import RequestError, invalid, malformed

from .message_cuts import Cut, cut, elements, elements_in_steps
from .schema import MESSAGES, PACKAGE, SERVICE, message_class
from .wire_format import BYTES, encode_varint

ROUTE: Final = f"/{PACKAGE}.{SERVICE}/ModelInfer"
MEDIA_TYPE: Final = "application/grpc"
DEADLINE: Final = b"grpc-timeout-ms"
"""Among the headers of a head: milliseconds until the client's deadline, which the library has read."""

PARAMETERS: Final = ("timeout", "priority", "triton_enable_empty_final_response")
MOST_ID_BYTES: Final = 1024

_RAW_TAG = encode_varint(MESSAGES["ModelInferResponse"]["raw_output_contents"][0] << 3 | BYTES)
_Answer = message_class("ModelInferResponse")


class ModelInfer(Codec):
    """One inference: a ``ModelInferRequest`` makes a ``ModelInferResponse``; an error is the text of a status."""

    asked_type: Any = Asked
    is_counted: ClassVar[bool] = True

    def answer_type(self, head: Head) -> str:
        """See the interface."""
        return MEDIA_TYPE

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface."""
        return MEDIA_TYPE

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """Say why the head has no name: the transport reads it from the message, where it is one."""
        yield
        cut(body)
        raise malformed("The request names no model.", "model_name")

    def timeout_ms(self, head: Head, body: bytes, limits: Limits) -> int:
        """See the interface."""
        return _ttl_ms(cut(body).request.parameters, head, limits)

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        found = cut(body)
        steps = _decode_in_steps(found, body, head, card, limits, generated_id)
        is_read = found.long or any(spec.row_bytes() is None or spec.datatype[0] == "F" for spec in card.inputs)
        return steps if len(body) > LARGE_BYTES and is_read else at_once(steps)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        version = numbered(reply.model.version)
        answer = _Answer(model_name=reply.model.name, model_version=version, id=asked.client_id)
        pieces = [b""]
        for tensor in tensors_of(reply, asked):
            answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            pieces += (_RAW_TAG, encode_varint(len(tensor.data)), tensor.data)
        pieces[0] = answer.SerializeToString()
        return Response(200, MEDIA_TYPE, b"".join(pieces))

    def rows(self, asked: Any) -> int:
        """See the interface."""
        wanted: Asked = asked
        return wanted.rows

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        text = f"{error.field}: {error.message}" if error.field else error.message
        return Response(error.outcome.status, "text/plain", text.encode())


MODEL_INFER = ModelInfer()


def _decode_in_steps(
    found: Cut, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
) -> Steps[Decoded]:
    request = found.request
    if len(request.id.encode()) > MOST_ID_BYTES:
        raise invalid(f"An id may have {MOST_ID_BYTES} bytes.", "id")
    _check_known(request.parameters, PARAMETERS, "parameters")
    outputs = check_outputs([_wanted(one, f"outputs[{index}]") for index, one in enumerate(request.outputs)], card)
    inputs = yield from _inputs_in_steps(found, body)
    ttl_ms = _ttl_ms(request.parameters, head, limits)
    message, rows, needs_tensors = yield from request_in_steps(
        inputs, outputs, card, ttl_ms, generated_id, head.traceparent
    )
    return Decoded(message, True, asked=Asked(outputs, needs_tensors, rows, request.model_version, request.id))


def _check_known(parameters: Any, known: Sequence[str], path: str) -> None:
    for name in parameters:
        if name.startswith(("shared_memory_", "sequence_")):
            raise unsupported("Shared memory" if name[1] == "h" else "A sequence of requests", f"{path}.{name[:64]}")
        if name not in known:
            said = f"it has {', '.join(known)}" if known else "there are none"
            raise invalid(f"There is no such parameter; {said}.", f"{path}.{name[:64]}")


def _number(parameters: Any, name: str, path: str) -> int:
    """Return a parameter that is a whole number, 0 if it is not there."""
    if name not in parameters:
        return 0
    chosen = parameters[name].WhichOneof("parameter_choice")
    value = getattr(parameters[name], chosen) if chosen in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise invalid("It must be a whole number, at least 0, in int64_param or uint64_param.", f"{path}.{name}")
    return int(value)


def _wanted(output: Any, path: str) -> Wanted:
    _check_known(output.parameters, ("classification",), f"{path}.parameters")
    return Wanted(output.name, _number(output.parameters, "classification", f"{path}.parameters"))


def _ttl_ms(parameters: Any, head: Head, limits: Limits) -> int:
    """Return how long the answer may take: the parameter (in µs) or the deadline of the call, whichever is shorter."""
    _number(parameters, "priority", "parameters")  # lanes are for that; the number is accepted and changes nothing
    timeout_ms = math.ceil(_number(parameters, "timeout", "parameters") / 1000)
    if timeout_ms > limits.max_timeout_ms:
        raise invalid(f"A timeout may be {limits.max_timeout_ms * 1000} µs.", "parameters.timeout")
    deadline = head.headers.get(DEADLINE)
    if deadline is None:
        return timeout_ms or limits.default_timeout_ms
    return max(1, min(timeout_ms or limits.max_timeout_ms, int(deadline), limits.max_timeout_ms))


def _inputs_in_steps(found: Cut, body: bytes) -> Steps[list[BinaryTensor]]:
    """Take each input's bytes from where they are."""
    inputs, raw = found.request.inputs, found.raw
    if raw and len(raw) != len(inputs):
        said = f"There must be one for each of the {len(inputs)} inputs, or none, and not {len(raw)}."
        raise invalid(said, "raw_input_contents")
    made = []
    for index, one in enumerate(inputs):
        path = f"inputs[{index}]"
        _check_known(one.parameters, (), f"{path}.parameters")
        if raw:
            if one.HasField("contents") or index in found.long:
                raise invalid("It has contents beside raw_input_contents; send either.", f"{path}.contents")
            data = raw[index]
        elif index in found.long:
            data = yield from elements_in_steps(body, found.long[index], one.datatype, path)
        else:
            data = elements(one.contents, one.datatype, path)
        try:
            shape = check_shape(tuple(one.shape), f"{path}.shape")
        except WireError as error:
            raise invalid(str(error), error.field) from None
        made.append(BinaryTensor(one.name, list(shape), one.datatype, data))
    return made

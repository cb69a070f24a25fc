"""The codec of ``POST /v2/models/{model}[/versions/{version}]/infer``."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from producer_api.inference.codec import Codec, Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.negotiation import JSON
from producer_api.parsing.json_cuts import cut
from producer_api.parsing.schemas import BinaryTensor, InputTensor
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from shared.state.cards import Card
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import RequestError, invalid

from . import answers, bodies
from .answers import AskedOverRest
from .core import Asked, Wanted, check_outputs, checked_in_steps, message_of
from .documents import InferError, InferOutput, InferParameters, InferRequest, from_json
from .documents import unsupported as unsupported
from .plans import Plan, Plans

PATHS = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
PREFIX = "/v2"
"""Everything below it speaks this dialect, errors included."""

_UNSUPPORTED = re.compile(
    rf"{PREFIX}/(?:repository/models/[^/]+/(?:load|unload)|trace/setting|models/[^/]+/trace/setting|logging"
    r"|(?:system|cuda)sharedmemory(?:/.*)?|models/[^/]+(?:/versions/[^/]+)?/generate(?:_stream)?)"
)
"""What Triton has besides."""

STATUS = {406: 400, 409: 400, 415: 400, 422: 400, 429: 503, 504: 503}
"""The protocol's clients expect these instead of our own; others are what they are everywhere in HTTP."""

_NO_PARAMETERS = InferParameters()


class OpenInference(Codec):
    """JSON and binary tensors in and out; errors in JSON."""

    asked_type: Any = AskedOverRest
    is_counted: ClassVar[bool] = True

    def answer_type(self, head: Head) -> str:
        """See the interface. What it will be depends on the outputs that the body asks for."""
        return JSON

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface. Clients send different types, and the protocol says nothing of them."""
        if head.content_encoding is not None:
            bodies.coding_of(head.content_encoding)
        return JSON

    def timeout_ms(self, head: Head, body: bytes, limits: Limits) -> int:
        """See the interface."""
        length = bodies.header_bytes(head.headers)
        if length == 0:
            return limits.default_timeout_ms
        if head.content_encoding is not None or (len(body) if length is None else length) > LARGE_BYTES:
            return limits.max_timeout_ms
        return _ttl_ms(from_json(bodies.document_of(body, length)).parameters or _NO_PARAMETERS, limits)

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        length, is_short = bodies.header_bytes(head.headers), False
        if head.content_encoding is None:
            if length:
                plan = PLANS.get(body[:length], card, len(body) - length)
                if plan is not None:
                    return _planned(plan, body, length, head, limits, generated_id)
            is_short = len(body) <= LARGE_BYTES or _is_passed_on(length, card)
        steps = _decode_in_steps(body, length, head, card, limits, generated_id)
        return at_once(steps) if is_short else steps

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        wanted: AskedOverRest = asked
        if wanted.coding is None and (is_short or _is_quick(reply, wanted)):
            return answers.answer(reply, wanted.asked)
        return answers.answer_in_steps(reply, wanted)

    def rows(self, asked: Any) -> int:
        """See the interface."""
        wanted: AskedOverRest = asked
        return wanted.asked.rows

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        status = error.outcome.status
        text = error.message if error.field is None else f"{error.field}: {error.message}"
        return Response(STATUS.get(status, status), JSON, json_encoder.encode(InferError(text)))


OPEN_INFERENCE = OpenInference()
PLANS = Plans()


def is_unsupported(path: str) -> bool:
    """Say whether a path is that of an extension which other servers have."""
    return _UNSUPPORTED.fullmatch(path) is not None


def _is_passed_on(length: int | None, card: Card) -> bool:
    """Say whether only lengths are looked at: the JSON is short, and no input has numbers or texts to be checked."""
    return (
        length is not None
        and length <= LARGE_BYTES
        and all(spec.datatype[:2] != "FP" and spec.datatype != "BYTES" for spec in card.inputs)
    )


def _is_quick(reply: Reply, wanted: AskedOverRest) -> bool:
    is_binary = all(one.is_binary for one in wanted.asked.outputs) and reply.predictions is None
    return is_binary or size_of(reply) <= LARGE_BYTES


def _planned(plan: Plan, body: bytes, length: int, head: Head, limits: Limits, request_id: str) -> Decoded:
    """Decode a request whose JSON is known."""
    request = plan.request(body, length, _ttl_ms(plan.parameters, limits), request_id, head.traceparent)
    return _decoded(request, Asked(plan.outputs, plan.needs_tensors, plan.rows, head.version), head)


def _decoded(request: Request, asked: Asked, head: Head) -> Decoded:
    accepted = head.headers.get(b"accept-encoding")
    return Decoded(request, True, "", AskedOverRest(asked, None if accepted is None else bodies.coding_for(accepted)))


def _decode_in_steps(
    body: bytes, length: int | None, head: Head, card: Card, limits: Limits, generated_id: str
) -> Steps[Decoded]:
    coding = None if head.content_encoding is None else bodies.coding_of(head.content_encoding)
    if coding is not None:
        body = yield from bodies.inflate_in_steps(body, coding, limits.max_body_bytes)
    if not body:
        raise invalid("The body is empty.", "body")
    document = b""
    if length == 0:
        asked, inputs, parameters = InferRequest([]), _raw_input(body, card), _NO_PARAMETERS
    else:
        document = bodies.document_of(body, length)
        asked = yield from _document_in_steps(document)
        inputs = bodies.tensors_in(body, len(document), asked.inputs)
        parameters = asked.parameters or _NO_PARAMETERS
    outputs = check_outputs(
        _wanted(asked, parameters), card, is_binary=length == 0 or bool(parameters.binary_data_output)
    )
    ttl_ms = _ttl_ms(parameters, limits)
    tensors, params, needs_tensors = yield from checked_in_steps(inputs, outputs, card)
    request = message_of(tensors, params, card, ttl_ms, generated_id, head.traceparent)
    if length and len(document) < len(body):
        PLANS.learn(document, card, asked, tensors, request, outputs, needs_tensors)
    return _decoded(request, Asked(outputs, needs_tensors, tensors[0].shape[0], head.version, asked.id or ""), head)


def _document_in_steps(document: bytes) -> Steps[InferRequest]:
    if len(document) <= LARGE_BYTES:
        return from_json(document)
    short = yield from cut(document)
    try:
        left = from_json(short.rest)
    except RequestError as error:
        raise short.explained(error) from None
    return InferRequest(short.inputs_restored(left.inputs), left.id, left.parameters, left.outputs)


def _raw_input(body: bytes, card: Card) -> list[InputTensor | BinaryTensor]:
    """Return the only input, of which the body has nothing but the data."""
    if len(card.inputs) != 1:
        raise invalid(f"A body without JSON is for models with one input; this one has {len(card.inputs)}.", "body")
    spec = card.inputs[0]
    if spec.datatype == "BYTES":
        if any(size not in (1, -1) for size in spec.shape):
            raise invalid("A body without JSON is one element, and the model takes several.", "body")
        shape, body = [1] * (len(spec.shape) + 1), len(body).to_bytes(4, "little") + body
        return [BinaryTensor(spec.name, shape, spec.datatype, body)]
    return [BinaryTensor(spec.name, _raw_shape(len(body), card), spec.datatype, body)]


def _raw_shape(size_bytes: int, card: Card) -> list[int]:
    """Return the shape of so many bytes: rows of a fixed size, or one row whose only free dimension takes them all."""
    spec = card.inputs[0]
    row_bytes = spec.row_bytes()
    if row_bytes is not None:
        return [max(1, size_bytes // row_bytes), *spec.shape]
    if spec.shape.count(-1) > 1:
        raise invalid("A body without JSON leaves the shape open; send it with one.", "body")
    free = max(1, size_bytes // spec.step_bytes())
    return [1, *(free if size == -1 else size for size in spec.shape)]


def _wanted(asked: InferRequest, parameters: InferParameters) -> list[Wanted]:
    default = bool(parameters.binary_data_output)
    return [_output(one, f"outputs[{index}]", default) for index, one in enumerate(asked.outputs or ())]


def _output(one: InferOutput, path: str, default: bool) -> Wanted:
    parameters = one.parameters
    if parameters is None:
        return Wanted(one.name, 0, default)
    parameters.check(path)
    is_binary = default if parameters.binary_data is None else parameters.binary_data
    return Wanted(one.name, parameters.classification or 0, is_binary)


def _ttl_ms(parameters: InferParameters, limits: Limits) -> int:
    if parameters.sequence_id not in (None, 0, "") or parameters.sequence_start or parameters.sequence_end:
        raise unsupported("A sequence of requests", "parameters.sequence_id")
    if not parameters.timeout:
        return limits.default_timeout_ms
    ttl_ms = -(-parameters.timeout // 1000)
    if ttl_ms > limits.max_timeout_ms:
        raise invalid(f"timeout must be at most {limits.max_timeout_ms * 1000} microseconds.", "parameters.timeout")
    return ttl_ms

"""KServe's protocol of version 1: ``POST /v1/models/{model}:predict`` with ``{"instances": […]}``.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol. An instance is one row: a value, or
a map from the names of inputs to values; for models of pictures ``{"b64": "…"}``, one in each request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from producer_api.inference.codec import Codec, Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.negotiation import JSON
from producer_api.inference.open_inference.rest import STATUS
from producer_api.inference.raw_bodies import check_picture
from producer_api.inference.tensors import check_inputs_in_steps
from producer_api.parsing import base64_text
from producer_api.parsing.json_cuts import Cuts, cut
from producer_api.parsing.schemas import MAX_TOP_K, InputTensor
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.parsing.validation import from_validation
from shared.state.cards import Card, TensorSpec
from shared.wire.messages import Prediction, Reply, Request, Scalar, Tensor
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid, malformed

from .nested import items_of, shape_of, text_pieces

PATH = "/v1/models/{model}:predict"

_PICTURE = "b64"
_OPENING = re.compile(rb"[\s\[]*")


class V1Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a request, as in our own dialect."""

    top_k: Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MAX_TOP_K})] | None = None
    timeout_ms: Annotated[int, Meta(extra_json_schema={"minimum": 1})] | None = None


class V1Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A request; ``signature_name`` is accepted and ignored."""

    instances: Annotated[msgspec.Raw, Meta(description="One for each row.", extra_json_schema={"type": "array"})]
    parameters: V1Parameters | None = None
    signature_name: str | None = None


class V1Error(Struct, frozen=True):
    """Every error has this shape."""

    error: str


_decoder = msgspec.json.Decoder(V1Request)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Instances(Codec):
    """``{"instances": […]}`` in, ``{"predictions": […]}`` out, one for each instance."""

    def answer_type(self, head: Head) -> str:
        """See the interface."""
        return JSON

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface."""
        if (head.content_encoding or b"identity").strip().lower() != b"identity":
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", field="Content-Encoding")
        return JSON

    def timeout_ms(self, head: Head, body: bytes, limits: Limits) -> int:
        """See the interface."""
        if len(body) > LARGE_BYTES:
            return limits.max_timeout_ms
        try:
            parameters = _decoder.decode(body).parameters or V1Parameters()
        except msgspec.ValidationError as error:
            raise from_validation(error, "") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise malformed("The body is not valid JSON.", "body") from None
        return _checked(parameters, limits)

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        steps = _decode_in_steps(body, head, card, limits, generated_id)
        return steps if len(body) > LARGE_BYTES else at_once(steps)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        steps = _encode_in_steps(reply)
        return at_once(steps) if is_short or size_of(reply) <= LARGE_BYTES else steps

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        status = error.outcome.status
        text = error.message if error.field is None else f"{error.field}: {error.message}"
        return Response(STATUS.get(status, status), JSON, json_encoder.encode(V1Error(text)))


KSERVE_V1 = Instances()


def _decode_in_steps(body: bytes, head: Head, card: Card, limits: Limits, generated_id: str) -> Steps[Decoded]:
    if not body:
        raise invalid("The body is empty.", "body")
    within = ""
    try:
        short = (yield from cut(body)) if len(body) > LARGE_BYTES else Cuts(body, {})
        asked = _decoder.decode(short.rest)
        within = "instances"
        found = short.cuts.get(bytes(asked.instances))
        if found is None:
            items = [msgspec.Raw(short.cuts.get(bytes(one), bytes(one))) for one in items_of(asked.instances)]
            if not items:
                raise invalid("There are no instances.", "instances")
            if bytes(items[0]).startswith(b"{"):
                columns = _columns([_objects.decode(one) for one in items], short.cuts)
                request = yield from _request_of(columns, len(items), card)
            else:
                request = yield from _request_of({_only(card).name: _listed(items)}, len(items), card)
        else:
            spec = _only(card)
            request = yield from _request_of({spec.name: found}, _rows_of(found, spec), card)
    except msgspec.ValidationError as error:
        raise from_validation(error, within) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("The body is not valid JSON.", "body") from None
    parameters = asked.parameters or V1Parameters()
    return Decoded(_completed(request, parameters, head, limits, generated_id), True)


def _checked(options: V1Parameters, limits: Limits) -> int:
    timeout_ms = limits.default_timeout_ms if options.timeout_ms is None else options.timeout_ms
    if not 1 <= timeout_ms <= limits.max_timeout_ms:
        raise invalid(f"timeout_ms must lie between 1 and {limits.max_timeout_ms}.", "parameters.timeout_ms")
    return timeout_ms


def _completed(request: Request, options: V1Parameters, head: Head, limits: Limits, request_id: str) -> Request:
    timeout_ms = _checked(options, limits)
    if options.top_k is not None and not 1 <= options.top_k <= MAX_TOP_K:
        raise invalid(f"top_k must lie between 1 and {MAX_TOP_K}.", "parameters.top_k")
    params: Mapping[str, Scalar] = {} if options.top_k is None else {"top_k": options.top_k}
    return msgspec.structs.replace(
        request, id=request_id, ttl_ms=timeout_ms, params=params, traceparent=head.traceparent
    )


def _only(card: Card) -> TensorSpec:
    if len(card.inputs) != 1:
        names = ", ".join(spec.name for spec in card.inputs) or "none"
        raise invalid(f"An instance of this model is a map with its inputs: {names}.", "instances")
    return card.inputs[0]


def _listed(items: Sequence[msgspec.Raw]) -> bytes:
    return b"[" + b",".join(bytes(one) for one in items) + b"]"


def _columns(rows: Sequence[Mapping[str, msgspec.Raw]], cuts: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return a list for each name that the instances have, put together from all of them."""
    names = list(rows[0])
    for index, row in enumerate(rows):
        if list(row) != names and set(row) != set(names):
            raise invalid(f"An instance has the names {', '.join(names)}, as the first one.", f"instances[{index}]")
    return {
        name: _listed([msgspec.Raw(cuts.get(bytes(row[name]), bytes(row[name]))) for row in rows]) for name in names
    }


def _rows_of(raw: bytes, spec: TensorSpec) -> int:
    """Return how many instances a long list has, without decoding it."""
    if spec.datatype == "BYTES" or -1 in spec.shape:
        raise invalid("So many instances are only taken of numbers in a fixed shape; send fewer.", "instances")
    opening = _OPENING.match(raw)
    if opening is None or opening[0].count(b"[") != 1 + len(spec.shape):
        raise invalid(f"Each instance must be nested like the shape {list(spec.shape)}.", "instances")
    return -(-(raw.count(b",") + 1) // math.prod(spec.shape))


def _request_of(columns: Mapping[str, bytes], rows: int, card: Card) -> Steps[Request]:
    """Return a message without its options: tensors, or a picture."""
    if list(columns) == [_PICTURE] and all(spec.name != _PICTURE for spec in card.inputs):
        return (yield from _picture(columns[_PICTURE], rows, card))
    specs = {spec.name: spec for spec in card.inputs}
    inputs = []
    for name, data in columns.items():
        spec = specs.get(name)
        if spec is None:
            raise invalid(f"The model has no input {name[:80]!r}; it has {', '.join(specs) or 'none'}.", "instances")
        shape = [rows, *spec.shape]
        if -1 in spec.shape:
            measured = shape_of(data, len(shape))
            if len(measured) != len(shape):
                raise invalid(f"Each instance must be nested like the shape {list(spec.shape)}.", "instances")
            shape = measured
        inputs.append(InputTensor(name, shape, spec.datatype, msgspec.Raw(data)))
    try:
        return Request("", 1, inputs=(yield from check_inputs_in_steps(inputs, card)))
    except RequestError as error:
        error.field = "instances"
        raise


def _picture(data: bytes, rows: int, card: Card) -> Steps[Request]:
    if rows != 1:
        raise invalid(f"A request has one picture, not {rows}.", "instances")
    text = msgspec.json.decode(data, type=list[str])[0]
    picture = yield from base64_text.decode_in_steps(text, "instances[0].b64")
    content_type, body = check_picture(picture, card, "instances[0].b64")
    return Request("", 1, content_type, body)


def _encode_in_steps(reply: Reply) -> Steps[Response]:
    if reply.predictions is not None:
        rows = json_encoder.encode(_by_row(reply.predictions))
    else:
        rows = yield from rows_in_steps(reply.outputs or ())
    return Response(200, JSON, b'{"predictions":%b}' % rows)


def _by_row(predictions: Sequence[Prediction]) -> list[list[dict[str, Any]]]:
    of_rows: list[list[dict[str, Any]]] = [[] for _ in range(1 + max((one.row for one in predictions), default=-1))]
    for one in predictions:
        of_rows[one.row].append({"label": one.label, "index": one.index, "score": one.score})
    return of_rows


def rows_in_steps(outputs: Sequence[Tensor]) -> Steps[bytes]:
    """Return a value for each row; a map for each row where there are several outputs."""
    columns = []
    for tensor in outputs:
        pieces = []
        if tensor.data:
            for piece in text_pieces(tensor.datatype, tensor.data, tensor.shape):
                pieces.append(piece)
                yield
        columns.append(b"".join(pieces) or json_encoder.encode([[]] * tensor.shape[0]))
    if len(columns) == 1:
        return columns[0]
    rows = zip(*(items_of(column) for column in columns), strict=True)
    names = [tensor.name for tensor in outputs]
    return json_encoder.encode([dict(zip(names, row, strict=True)) for row in rows])

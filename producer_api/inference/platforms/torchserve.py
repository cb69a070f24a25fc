"""TorchServe: ``POST`` or ``PUT`` to ``/predictions/{model}``, a body as it is or a form; every family answers.

https://github.com/pytorch/serve/blob/master/docs/inference_api.md. A handler (family ``torchserve``) gets what was
sent, and what it returns is the answer. Of other models pictures, texts, rows of bytes and JSON are asked; a classifier
answers probabilities by labels, the others their outputs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from producer_api.inference.codec import Codec, Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder, size_of
from producer_api.inference.negotiation import JSON, RAW, media_type, sniff
from producer_api.inference.raw_bodies import check_picture, check_rows
from producer_api.parsing.elements import is_finite_in_steps
from producer_api.parsing.forms import MULTIPART, Field, fields_of_form, fields_of_query
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.queue.admission import UnknownVersion
from shared.state.cards import HANDLED, HEADER, TYPE_OF, Card
from shared.wire.generation import CONTENT_TYPE as GENERATE
from shared.wire.messages import Prediction, Reply, Request, Scalar, Tensor
from shared.wire.outcomes import (
    BODY_TOO_LARGE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNKNOWN_MODEL,
    UNSUPPORTED_MEDIA_TYPE,
    RequestError,
    invalid,
)

from .kserve_v1 import KSERVE_V1, rows_in_steps

PATH = "/predictions/{model}"
PATHS = (PATH, f"{PATH}/{{version}}")
PREFIX = "/predictions"

_HANDLED, _ROW, _ROWS = "handled", "row", "rows"
"""What an answer is: a handler's, of one row, or a list of rows."""

MOST_HEADERS = 16
MOST_HEADER = 1024
"""Headers that reach a handler, and characters of one."""

_FIELDS = ("data", "body")
_TEXT = "text/plain"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}[ -~]{0,120}")
_FORM_OF_CURL = "application/x-www-form-urlencoded"
"""What curl says of ``--data-binary`` where nobody said otherwise."""

_TYPES = {
    UNKNOWN_MODEL: "ModelNotFoundException",
    NOT_FOUND: "ResourceNotFoundException",
    METHOD_NOT_ALLOWED: "MethodNotAllowedException",
    BODY_TOO_LARGE: "RequestEntityTooLargeException",
}


class TorchServeError(Struct, frozen=True):
    """Every error has this shape; ``code`` is the HTTP status."""

    code: int
    type: str
    message: str


class Predictions(Codec):
    """See the module."""

    asked_type: Any = str
    methods: ClassVar[tuple[str, ...]] = ("POST", "PUT")

    def answer_type(self, head: Head) -> str:
        """See the interface; a handler's answer has the type that it says."""
        return JSON

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface."""
        if (head.content_encoding or b"identity").strip().lower() != b"identity":
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", field="Content-Encoding")
        kind = media_type(head.content_type)
        return "" if kind == _FORM_OF_CURL else kind

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        fields = fields_of_form(body, head.content_type) if kind == MULTIPART else [Field("body", kind, body)]
        blank = Request(generated_id, limits.default_timeout_ms, traceparent=head.traceparent)
        if card.outputs == HANDLED:
            if head.query:
                fields += fields_of_query(head.query)
            params = _headers_for_a_handler(head)
            blank = msgspec.structs.replace(blank, params=params) if params else blank
            return Decoded(_for_a_handler(fields, blank), True, asked=_HANDLED)
        steps = _for_others(_only(fields), blank, head, card, limits)
        return steps if len(body) > LARGE_BYTES else at_once(steps)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        if asked == _HANDLED and reply.outputs is not None and len(reply.outputs) == len(HANDLED):
            return _handled(reply.outputs)
        steps = _answer_in_steps(reply, asked)
        return at_once(steps) if is_short or size_of(reply) <= LARGE_BYTES else steps

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        status = error.outcome.status
        text = error.message if error.field is None else f"{error.field}: {error.message}"
        told = TorchServeError(status, _type_of(error), text)
        return Response(status, JSON, json_encoder.encode(told))


PREDICTIONS = Predictions()


def _type_of(error: RequestError) -> str:
    """Name an error as TorchServe would."""
    if isinstance(error, UnknownVersion):
        return "ModelVersionNotFoundException"
    status = error.outcome.status
    by_status = "InternalServerException" if status >= 500 else "BadRequestException"
    return _TYPES.get(error.outcome, "ServiceUnavailableException" if status == 503 else by_status)


def _only(fields: Sequence[Field]) -> Field:
    """Return the field that has the input: ``data``, ``body``, or the only one."""
    named = [one for name in _FIELDS for one in fields if one.name == name] or list(fields)
    if len(fields) > 1 and len(named) > 1:
        raise invalid("This model takes one input: send it as the field data.", "body")
    if not named or not named[0].value:
        raise invalid("The body is empty.", "body")
    return named[0]


def _for_a_handler(fields: Sequence[Field], blank: Request) -> Request:
    """Return the message with a body as it is, or with an input for each field."""
    if len(fields) == 1 and fields[0].name == "body" and fields[0].value:
        [(_, kind, body)] = fields
        return msgspec.structs.replace(blank, content_type=kind or RAW, body=body)
    by_name = {one.name: one for one in fields if one.value or one.name != "body"}
    if not by_name:
        raise invalid("The body is empty.", "body")
    inputs = tuple(Tensor(one.name, "BYTES", (1,), _packed(one.value)) for one in by_name.values())
    types = {f"{TYPE_OF}{one.name}": one.content_type for one in by_name.values() if one.content_type}
    return msgspec.structs.replace(blank, inputs=inputs, params={**blank.params, **types})


def _headers_for_a_handler(head: Head) -> dict[str, Scalar]:
    """Return the first headers of the client's own, those with ``X-``: others may be secret, or are the server's."""
    own = [(name, value) for name, value in head.headers.items() if name.startswith(b"x-")][:MOST_HEADERS]
    return {f"{HEADER}{name.decode('latin-1')[:128]}": value.decode("latin-1")[:MOST_HEADER] for name, value in own}


def _packed(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _for_others(field: Field, blank: Request, head: Head, card: Card, limits: Limits) -> Steps[Decoded]:
    kind, body = field.content_type, field.value
    if GENERATE in card.content_types:
        raise invalid("This model generates text; ask it at /v1/completions or /v1/chat/completions.", "body")
    if sniff(body) in card.content_types:
        content_type, picture = check_picture(body, card, field.name)
        return Decoded(msgspec.structs.replace(blank, content_type=content_type, body=picture), True, asked=_ROW)
    if kind == JSON or (kind in ("", RAW) and body.lstrip(b" \t\r\n")[:1] in (b"[", b"{")):
        return (yield from _of_json(body, head, card, limits, blank))
    if card.inputs and card.inputs[0].datatype == "BYTES":
        return Decoded(_text(body, card, field.name, blank), True, asked=_ROW)
    if kind.startswith("image/") or (card.labels is not None and kind != RAW):
        check_picture(body, card, field.name)  # and say why it is none
    datatype = check_rows(body, card)
    if datatype.startswith("FP") and not (yield from is_finite_in_steps(datatype, body)):
        raise invalid("The body holds NaN or an infinity.", field.name)
    return Decoded(msgspec.structs.replace(blank, content_type=RAW, body=body), True, asked=_ROW)


def _text(body: bytes, card: Card, name: str, blank: Request) -> Request:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise invalid("The text is not UTF-8.", name) from None
    if _TEXT in card.content_types:
        return msgspec.structs.replace(blank, content_type=_TEXT, body=body)
    if len(card.inputs) > 1:
        raise invalid("The model has several inputs; send them as JSON.", name)
    [spec] = card.inputs
    return msgspec.structs.replace(blank, inputs=(Tensor(spec.name, "BYTES", (1, *spec.shape), _packed(body)),))


def _of_json(body: bytes, head: Head, card: Card, limits: Limits, blank: Request) -> Steps[Decoded]:
    """Decode ``{"instances": […]}``, or JSON that is one row itself."""
    asked = _ROWS
    if not re.match(rb'\s*\{\s*"(?:instances|parameters|signature_name)"\s*:', body):
        asked, body = _ROW, b'{"instances":[%b]}' % body
    made = KSERVE_V1.decode(JSON, body, head, card, limits, blank.id)
    decoded = made if isinstance(made, Decoded) else (yield from made)
    return msgspec.structs.replace(decoded, asked=asked)


def _handled(outputs: Sequence[Tensor]) -> Response:
    """Return what a handler has answered to one request."""
    by_name = {one.name: one.data[4:] for one in outputs}
    said = by_name.get("content_type", b"").decode("latin-1")
    return Response(200, said if _MEDIA_TYPE.fullmatch(said) else RAW, by_name.get("body", b""))


def _answer_in_steps(reply: Reply, asked: Any) -> Steps[Response]:
    if reply.predictions is not None:
        rows = _by_label(reply.predictions)
        return Response(200, JSON, json_encoder.encode(rows[0] if asked == _ROW and len(rows) == 1 else rows))
    text = yield from rows_in_steps(reply.outputs or ())
    is_one = asked == _ROW and all(one.shape[:1] == (1,) for one in reply.outputs or ())
    return Response(200, JSON, text[1:-1] if is_one else text)


def _by_label(predictions: Sequence[Prediction]) -> list[dict[str, float]]:
    found: list[dict[str, float]] = [{} for _ in range(1 + max((one.row for one in predictions), default=-1))]
    for one in predictions:
        of_row = found[one.row]
        of_row[one.label if one.label not in of_row else f"{one.label} ({one.index})"] = one.score
    return found

"""From the body of a predict request to a message for the queue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from producer_api.parsing import base64_text
from producer_api.parsing.elements import is_finite_in_steps
from producer_api.parsing.json_cuts import cut
from producer_api.parsing.schemas import MAX_TOP_K, Parameters, PredictMsgpack, PredictRequest
from producer_api.parsing.steps import LARGE_BYTES, Steps, at_once
from producer_api.parsing.validation import from_validation
from shared.names import is_name
from shared.state.cards import ITEM_BYTES, Card, TensorSpec
from shared.wire.messages import TOO_MANY_VALUES, Request, Scalar, Tensor, WireError, unpack
from shared.wire.outcomes import RequestError, invalid, malformed

from .negotiation import IMAGES, JSON, MSGPACK, RAW, sniff
from .tensors import check_inputs_in_steps

_any_json = msgspec.json.Decoder(msgspec.Raw)
_json_decoder = msgspec.json.Decoder(PredictRequest)
_msgpack_decoder = msgspec.msgpack.Decoder(PredictMsgpack)
_ID_RULE = "An id is 1 to 64 letters, digits, '_' or '-'."
_NO_OPTIONS = Parameters()
_NO_PARAMS: Mapping[str, Scalar] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of ``timeout_ms``: what it is when not given, and the most it may be."""

    default_timeout_ms: int
    max_timeout_ms: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """A request ready for the queue.

    Attributes:
        id_is_generated: the client did not name it.
        fingerprint: of all that was sent, when an idempotency key came with it; else empty.
    """

    request: Request
    id_is_generated: bool
    fingerprint: str = ""


def decode(
    kind: str, body: bytes, query: bytes, card: Card, limits: Limits, generated_id: str, traceparent: str | None
) -> Decoded:
    """Decode and check one predict request at once, see :func:`decode_in_steps`."""
    return at_once(decode_in_steps(kind, body, query, card, limits, generated_id, traceparent))


def decode_in_steps(
    kind: str, body: bytes, query: bytes, card: Card, limits: Limits, generated_id: str, traceparent: str | None
) -> Steps[Decoded]:
    """Decode and check one predict request, with pauses where the body is large.

    Args:
        kind: media type of ``body``, as :func:`negotiation.body_type` returns it.
        body: all of it; it is passed on without a copy when it is raw.
        query: the query string, which holds the options of raw bodies.
        generated_id: id of the request unless the client names it.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    options = query_options(query) if query else _NO_OPTIONS
    inputs: tuple[Tensor, ...] | None = None
    content_type: str | None = kind
    if not body:
        raise invalid("The body is empty.", "body")
    if kind in (JSON, MSGPACK):
        if query:
            raise malformed(
                "Options of a JSON or msgpack body belong into its parameters, not into the query.", "query"
            )
        message: PredictRequest | PredictMsgpack
        if kind == MSGPACK:
            message = _from_msgpack(body)
        elif len(body) <= LARGE_BYTES:
            message = _from_json(body)
        else:
            short = yield from cut(body)
            try:
                left = _from_json(short.rest)
            except RequestError as error:
                raise short.explained(error) from None
            message = yield from short.restored(left)
        options = message.parameters or _NO_OPTIONS
        if options.id is not None and not is_name(options.id):  # the schema's $ also matches before a last line feed
            raise invalid(_ID_RULE, "parameters.id")
        inputs, content_type, raw = yield from _payload(message, card)
    else:
        content_type, raw = _picture(body, card, "body") if kind in IMAGES else (kind, body)
        if kind == RAW:
            datatype = _check_rows(body, card)
            if datatype.startswith("FP") and not (yield from is_finite_in_steps(datatype, body)):
                raise invalid("The body holds NaN or an infinity.", "body")
    timeout_ms = options.timeout_ms
    if timeout_ms is None:
        timeout_ms = limits.default_timeout_ms
    elif timeout_ms > limits.max_timeout_ms:
        where = "timeout_ms" if query else "parameters.timeout_ms"
        raise invalid(f"timeout_ms must be at most {limits.max_timeout_ms}.", where)
    request = Request(
        id=generated_id if options.id is None else options.id,
        ttl_ms=timeout_ms,
        content_type=content_type,
        body=raw,
        inputs=inputs,
        params=_NO_PARAMS if options.top_k is None else {"top_k": options.top_k},
        traceparent=traceparent,
    )
    return Decoded(request, options.id is None)


def query_options(query: bytes) -> Parameters:
    """Read top_k, timeout_ms and id from a query string.

    Raises:
        RequestError: ``MALFORMED`` for a parameter that is unknown, repeated or cannot be parsed, ``INVALID_INPUT``
            for a value out of range.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16
        )
    except ValueError:
        raise malformed("The query string cannot be parsed.", "query") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in ("top_k", "timeout_ms", "id"):
            raise malformed(
                f"There is no query parameter {name[:80]!r}; there are top_k, timeout_ms and id.", name[:80]
            )
        if name in values:
            raise malformed(f"The query parameter {name} is there twice.", name)
        values[name] = text if name == "id" else _whole_number(name, text)
    if "id" in values and not is_name(values["id"]):
        raise invalid(_ID_RULE, "id")
    if not 1 <= values.get("top_k", 1) <= MAX_TOP_K:
        raise invalid(f"top_k must lie between 1 and {MAX_TOP_K}.", "top_k")
    if values.get("timeout_ms", 1) < 1:
        raise invalid("timeout_ms must be at least 1.", "timeout_ms")
    return Parameters(**values)


def _whole_number(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise invalid(f"{name} must be a whole number.", name)
    return int(text)


def _from_json(body: bytes) -> PredictRequest:
    try:
        try:
            return _json_decoder.decode(body)
        except msgspec.ValidationError as error:
            _any_json.decode(body)  # the first member that does not fit may stand before the first syntax error
            raise from_validation(error) from None
    except RecursionError:
        raise malformed("The JSON is nested too deeply.", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(f"The body is not valid JSON: {_reason(error)}.", "body") from None


def _from_msgpack(body: bytes) -> PredictMsgpack:
    try:
        try:
            return _msgpack_decoder.decode(body)
        except msgspec.ValidationError as error:
            _check_msgpack(body)
            raise from_validation(error) from None
    except RecursionError:
        raise malformed("The message is nested too deeply.", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(f"The message is not valid msgpack: {_reason(error)}.", "body") from None


def _check_msgpack(body: bytes) -> None:
    """Look for the first thing that no message may hold, as in JSON. Of many values none is made.

    Raises:
        msgspec.DecodeError: it is no msgpack.
        RequestError: ``MALFORMED``: it holds what the format does not have.
    """
    try:
        unpack(body)
    except WireError as error:
        if str(error) != TOO_MANY_VALUES:
            raise malformed(str(error), "body") from None
        _check_keys(body)


def _check_keys(body: bytes) -> None:
    try:
        _msgpack_decoder.decode(body)
    except msgspec.ValidationError as error:
        if "`key` in" in str(error):
            raise malformed("The message is not valid msgpack: a number is not allowed for map key.", "body") from None
        if "got `ext`" in str(error):
            raise malformed("Extension types are not part of the format.", "body") from None


def _reason(error: Exception) -> str:
    text = str(error).removeprefix("JSON is malformed: ").removeprefix("MessagePack data is malformed: ")
    return text.strip().rstrip(".")[:120]


def _payload(
    message: PredictRequest | PredictMsgpack, card: Card
) -> Steps[tuple[tuple[Tensor, ...] | None, str | None, bytes | None]]:
    """Return the inputs, or the content type and the bytes of a picture."""
    picture = message.image if isinstance(message, PredictMsgpack) else None
    given = (message.inputs is not None) + (message.image_base64 is not None) + (picture is not None)
    if given != 1:
        names = "inputs, image and image_base64" if isinstance(message, PredictMsgpack) else "inputs and image_base64"
        raise invalid(f"A request has exactly one of {names}.", "inputs")
    if message.inputs is not None:
        return (yield from _inputs(message.inputs, card)), None, None
    field = "image"
    if message.image_base64 is not None:
        field = "image_base64"
        picture = yield from base64_text.decode_in_steps(message.image_base64, field)
    return None, *_picture(picture or b"", card, field)


def _inputs(inputs: Any, card: Card) -> Steps[tuple[Tensor, ...]]:
    try:
        return (yield from check_inputs_in_steps(inputs, card))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise malformed(f"The body is not valid JSON: {_reason(error)}.", "body") from None


def _picture(picture: bytes, card: Card, field: str) -> tuple[str, bytes]:
    kind = sniff(picture)
    if kind is None:
        raise invalid(f"This is not a JPEG, PNG or WebP file.{base64_text.hint(picture)}", field)
    if kind not in card.content_types:
        raise invalid(f"The model does not take {kind}.", field)
    return kind, picture


def _check_rows(body: bytes, card: Card) -> str:
    """Check that ``body`` is one or more rows of the model's only input; returns that one's datatype."""
    if not card.inputs:
        raise invalid(f"The model describes no input that {RAW} could be rows of.", "body")
    if len(card.inputs) > 1:
        raise invalid("The model has several inputs; send them as JSON or msgpack.", "body")
    spec = card.inputs[0]
    row_bytes, step_bytes = _sizes(spec)
    if row_bytes:
        rows, rest = divmod(len(body), row_bytes)
        if rest:
            raise invalid(
                f"A row of {spec.datatype} {list(spec.shape)} takes {row_bytes} bytes; the body has {len(body)}, "
                "which is not a multiple.",
                "body",
            )
        if rows > card.batch.max_batch:
            raise invalid(f"The model takes at most {card.batch.max_batch} rows, not {rows}.", "body")
    elif len(body) % step_bytes:
        raise invalid(f"The body does not fill whole elements of {spec.datatype} {list(spec.shape)}.", "body")
    return spec.datatype


@lru_cache(maxsize=1024)
def _sizes(spec: TensorSpec) -> tuple[int | None, int]:
    """Bytes of one row, None when a dimension is free, and what every length is a multiple of even then."""
    item_bytes = ITEM_BYTES.get(spec.datatype, 1)
    return spec.row_bytes(), item_bytes * math.prod(size for size in spec.shape if size > 0)

"""From the body of a predict request to a message for the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from producer_api.parsing import base64_text
from producer_api.parsing.elements import is_finite_in_steps
from producer_api.parsing.generations import generation_body
from producer_api.parsing.json_cuts import cut
from producer_api.parsing.schemas import Parameters, PredictMsgpack, PredictRequest
from producer_api.parsing.steps import LARGE_BYTES, Steps
from producer_api.parsing.validation import reason
from producer_api.store.reference import MEDIA_TYPE, Reference, parse
from shared.names import is_name
from shared.state.cards import Card
from shared.wire.generation import CONTENT_TYPE as GENERATE
from shared.wire.messages import Request, Scalar, Tensor
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid, malformed

from .codec import Decoded, Limits
from .documents import from_json, from_msgpack
from .negotiation import IMAGES, JSON, MSGPACK, RAW
from .query_options import ID_RULE, query_options
from .raw_bodies import check_picture, check_rows
from .tensors import check_inputs_in_steps

_NO_OPTIONS = Parameters()
_NO_PARAMS: Mapping[str, Scalar] = {}


def decode_in_steps(
    kind: str,
    body: bytes,
    query: bytes,
    card: Card,
    limits: Limits,
    generated_id: str,
    traceparent: str | None,
    *,
    is_streamed: bool = False,
) -> Steps[Decoded]:
    """Decode and check one predict request, with pauses where the body is large.

    Args:
        kind: media type of ``body``, as :func:`negotiation.body_type` returns it.
        body: all of it; it is passed on without a copy when it is raw.
        query: the query string, which holds the options of raw bodies.
        generated_id: id of the request unless the client names it.
        is_streamed: what is generated is sent as it is made.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    options = query_options(query) if query else _NO_OPTIONS
    inputs: tuple[Tensor, ...] | None = None
    content_type: str | None = kind
    raw: bytes | None
    reference: Reference | None = None
    if not body:
        raise invalid("The body is empty.", "body")
    if kind in (JSON, MSGPACK):
        if query:
            raise malformed(
                "Options of a JSON or msgpack body belong into its parameters, not into the query.", "query"
            )
        message: PredictRequest | PredictMsgpack
        if kind == MSGPACK:
            message = from_msgpack(body)
        elif len(body) <= LARGE_BYTES:
            message = from_json(body)
        else:
            short = yield from cut(body)
            try:
                left = from_json(short.rest)
            except RequestError as error:
                raise short.explained(error) from None
            message = yield from short.restored(left)
        options = message.parameters or _NO_OPTIONS
        if options.id is not None and not is_name(options.id):  # the schema's $ also matches before a last line feed
            raise invalid(ID_RULE, "parameters.id")
        if isinstance(message, PredictRequest) and message.generate is not UNSET:
            content_type = _generates(message, card)
            raw = generation_body(message.generate, limits.max_timeout_ms, is_streamed=is_streamed)
        else:
            inputs, content_type, raw = yield from _payload(message, card)
    else:
        content_type, raw = check_picture(body, card, "body") if kind in IMAGES else (kind, body)
        if kind == RAW:
            datatype = check_rows(body, card)
            if datatype.startswith("FP") and not (yield from is_finite_in_steps(datatype, body)):
                raise invalid("The body holds NaN or an infinity.", "body")
        elif kind == MEDIA_TYPE:
            reference = reference_to(body, card)
            content_type, raw = reference.content_type, None
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
        params=_NO_PARAMS if options.top_k is None and options.truncate is None else _params(options),
        traceparent=traceparent,
        explain=options.explain is True,
    )
    run_ms = limits.max_timeout_ms if content_type == GENERATE else 0
    return Decoded(request, options.id is None, reference=reference, run_ms=run_ms)


def _params(options: Parameters) -> Mapping[str, Scalar]:
    found: dict[str, Scalar] = {"top_k": options.top_k, "truncate": options.truncate}
    return {name: value for name, value in found.items() if value is not None}


def reference_to(body: bytes, card: Card) -> Reference:
    """Read a reference to a body that the model takes as it is.

    Raises:
        RequestError: ``MALFORMED``, ``INVALID_INPUT``, ``UNSUPPORTED_MEDIA_TYPE``.
    """
    reference = parse(body)
    if reference.content_type not in card.content_types:
        message = f"By reference the model takes {', '.join(card.content_types)}, not {reference.content_type[:80]}."
        raise RequestError(UNSUPPORTED_MEDIA_TYPE, message, field="reference.content_type")
    return reference


def timeout_of(kind: str, body: bytes, query: bytes, limits: Limits) -> int:
    """Return how long the client of a request waits for its answer in ms, without decoding all of it.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    options = query_options(query) if query else _NO_OPTIONS
    if kind in (JSON, MSGPACK) and not query:
        message = from_msgpack(body) if kind == MSGPACK else from_json(body)
        options = message.parameters or _NO_OPTIONS
    return min(options.timeout_ms or limits.default_timeout_ms, limits.max_timeout_ms)


def _generates(message: PredictRequest, card: Card) -> str:
    if GENERATE not in card.content_types:
        raise invalid("This model does not generate text.", "generate")
    if message.inputs is not None or message.image_base64 is not None:
        raise invalid("A request has exactly one of inputs, image_base64 and generate.", "generate")
    return GENERATE


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
    return None, *check_picture(picture or b"", card, field)


def _inputs(inputs: Any, card: Card) -> Steps[tuple[Tensor, ...]]:
    try:
        return (yield from check_inputs_in_steps(inputs, card))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise malformed(f"The body is not valid JSON: {reason(error)}.", "body") from None

"""The wire format once more, for the messages of the hot path.

msgspec reads and writes a message straight from and to a struct, in a quarter of the time that a generic decoder and
the checks after it take. What it does not take as it is, be it rare or wrong, goes to ``messages.py``, which alone says
what is right and why something is not. ``tests/unit/shared/wire/test_fast.py`` holds the two to the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.limits import LONGEST_MS, MAX_VALUES
from shared.names import is_name

from . import messages
from .messages import Fault, Generated, ModelTag, Prediction, Reply, Request, Tensor, Timing, WireError
from .ran import Ran

ShortText = Annotated[str, Meta(max_length=messages.MAX_TEXT)]


class _Tensor(Struct, forbid_unknown_fields=True):
    """An input as it is read. A list that is too long is refused by its length, before anything in it is made."""

    name: ShortText
    datatype: ShortText
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, lt=1 << 31)], ...], Meta(max_length=messages.MAX_DIMENSIONS)]
    data: bytes


class _Request(Struct, forbid_unknown_fields=True):
    """A request as it is read."""

    v: int
    id: str
    ttl_ms: Annotated[int, Meta(ge=1, le=LONGEST_MS)]
    ct: ShortText | None = None
    body: bytes | None = None
    inputs: Annotated[list[_Tensor], Meta(min_length=1, max_length=messages.MAX_INPUTS)] | None = None
    rt: str | None = None
    params: Annotated[dict[str, messages.Scalar], Meta(max_length=messages.MAX_PARAMS)] | None = None
    tp: ShortText | None = None
    at: ShortText | None = None
    keep_ms: Annotated[int, Meta(ge=1, le=LONGEST_MS)] | None = None
    at_store: ShortText | None = None
    urgent: bool = False
    explain: bool = False


class _Reply(Struct):
    """A reply as it is read. Members of newer versions are ignored."""

    v: int
    id: str
    model: ModelTag
    t: Timing
    attempt: int
    final: bool = True
    predictions: list[Prediction] | None = None
    outputs: list[Tensor] | None = None
    error: Fault | None = None
    warnings: tuple[str, ...] = ()
    at_store: str | None = None
    generated: Generated | None = None
    ran: Ran | None = None


class _Part(Struct):
    """What says whether a reply is whole."""

    final: bool = True


class _Answer(Struct, kw_only=True):
    """A reply as it is written; the members stand in the order of ``wire.encode_reply``."""

    v: int = messages.VERSION
    id: str
    ok: bool = True
    seq: int = 0
    attempt: int
    final: bool = True
    model: ModelTag
    t: Timing
    predictions: Sequence[Prediction] | UnsetType = UNSET
    outputs: Sequence[Tensor] | UnsetType = UNSET
    warnings: Sequence[str] | UnsetType = UNSET


_request_decoder = msgspec.msgpack.Decoder(_Request)
_reply_decoder = msgspec.msgpack.Decoder(_Reply)
_part_decoder = msgspec.msgpack.Decoder(_Part)
_encoder = msgspec.msgpack.Encoder()


def decode_request(message: bytes, *, checks_elements: bool = True) -> Request:
    """Decode and check a request, see :func:`shared.wire.messages.decode_request`.

    Args:
        checks_elements: False leaves the elements of BYTES tensors to
            :func:`shared.wire.messages.check_elements`, since looking at each takes time.
    """
    try:
        found = _request_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return messages.decode_request(message)
    reply_to, body, inputs = found.rt, found.body, None
    if found.v != messages.VERSION or not is_name(found.id) or not (reply_to is None or is_name(reply_to)):
        return messages.decode_request(message)
    if found.at_store is not None or found.explain or (found.at is not None and found.urgent):
        return messages.decode_request(message)
    if body is None or found.ct is None or found.inputs is not None or found.at is not None:
        if body is None and found.inputs is None and found.ct is not None and found.at is not None:
            params, at = found.params or {}, found.at
            return Request(found.id, found.ttl_ms, found.ct, None, None, reply_to, params, found.tp, at, found.keep_ms)
        other = body is not None or found.inputs is None or found.at is not None
        inputs = None if other else _tensors(found.inputs or (), checks_elements)
        if inputs is None:
            return messages.decode_request(message)
    content_type = None if body is None else found.ct
    params, urgent = found.params or {}, found.urgent
    return Request(
        found.id,
        found.ttl_ms,
        content_type,
        body,
        inputs,
        reply_to,
        params,
        found.tp,
        None,
        found.keep_ms,
        None,
        urgent,
    )


def _tensors(found: Sequence[_Tensor], checks_elements: bool) -> tuple[Tensor, ...] | None:
    """Return the inputs, None when one of them is wrong."""
    try:
        for index, one in enumerate(found):
            if checks_elements or one.datatype != "BYTES":
                messages.check_data(one.datatype, one.shape, one.data, f"inputs[{index}]")
    except WireError:
        return None
    return tuple(Tensor(one.name, one.datatype, one.shape, one.data) for one in found)


def is_final(message: bytes) -> bool:
    """Say whether a reply is whole, and no part of one that a later version sends piece by piece.

    What cannot be read counts as final: decoding it will say what is wrong.
    """
    if b"final\xc2" not in message:  # the name and a false behind it
        return True
    try:
        return _part_decoder.decode(message).final
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def decode_reply(message: bytes) -> Reply:
    """Decode a reply, see :func:`shared.wire.messages.decode_reply`."""
    try:
        found = _reply_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return messages.decode_reply(message, MAX_VALUES)
    if found.v != messages.VERSION or not found.final:
        return messages.decode_reply(message, MAX_VALUES)
    return Reply(
        found.id,
        found.model,
        found.t,
        found.attempt,
        found.predictions,
        found.outputs,
        found.error,
        found.warnings,
        found.at_store,
        found.generated,
        found.ran,
    )


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply, see :func:`shared.wire.messages.encode_reply`."""
    rare = reply.fault is not None or reply.at_store is not None or reply.generated is not None
    if rare or reply.ran is not None:
        return messages.encode_reply(reply)
    return _encoder.encode(
        _Answer(
            id=reply.id,
            model=reply.model,
            t=reply.timing,
            attempt=reply.attempt,
            predictions=UNSET if reply.predictions is None else reply.predictions,
            outputs=UNSET if reply.outputs is None else reply.outputs,
            warnings=reply.warnings or UNSET,
        )
    )

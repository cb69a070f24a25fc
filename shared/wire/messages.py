"""The wire format: requests and replies as msgpack maps. ``docs/protocol.md`` is its contract, golden bytes its test.

Decoders treat every byte as hostile: they refuse extension types, unknown versions, unknown members, wrong types,
names that could not be keys, and tensors whose shape disagrees with their bytes. msgpack itself bounds every declared
length by the size of the message, so a few bytes that promise 4 GiB allocate nothing; and nothing is decoded that
holds more values than a request has room for, so that memory stays in proportion to the bytes.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import msgspec
from msgspec.structs import asdict

from shared.limits import LONGEST_MS, MAX_VALUES
from shared.names import is_name

from .generated import Generated as Generated
from .generated import generated_from
from .packing import pack as pack
from .packing import unpack as unpack
from .packing import what_is_wrong
from .ran import Ran, ran_from, ran_to
from .senders import sender_of as sender_of
from .tensors import MAX_DIMENSIONS as MAX_DIMENSIONS
from .tensors import MAX_TEXT as MAX_TEXT
from .tensors import Tensor as Tensor
from .tensors import WireError as WireError
from .tensors import check_byte_elements_in_steps as check_byte_elements_in_steps
from .tensors import check_data as check_data
from .tensors import check_shape as check_shape
from .tensors import decode_tensor as decode_tensor
from .value_count import holds_more_values

VERSION = 1
MAX_INPUTS = 64
MAX_PARAMS = 64

Scalar = str | int | float | bool | None


class Request(msgspec.Struct, frozen=True):
    """One request. Exactly one of ``body``, ``at``, ``at_store`` (each with ``content_type``) and ``inputs`` is set.

    Attributes:
        id: name of the request, unique in its lane.
        ttl_ms: how long after the request entered the stream it may begin to run, in ms.
        reply_to: name of the waiting instance whose reply stream gets a hint, if any.
        params: options such as ``top_k``; scalars only.
        keep_ms: how long its reply stays once it is stored; None leaves that to the consumer.
        at: instead of ``body``, where a front end of the consumer's machine keeps it (``bodies.py``).
        traceparent: W3C trace context, passed on unread.
        at_store: instead of ``body``, where it is in the result store (``shared/results/references.py``).
        urgent: in a lane of kind ``batch``, that it no longer waits until nothing else does; elsewhere of no effect.
        explain: the reply is to say where it ran.
    """

    id: str
    ttl_ms: int
    content_type: str | None = None
    body: bytes | None = None
    inputs: tuple[Tensor, ...] | None = None
    reply_to: str | None = None
    params: Mapping[str, Scalar] = {}
    traceparent: str | None = None
    at: str | None = None
    keep_ms: int | None = None
    at_store: str | None = None
    urgent: bool = False
    explain: bool = False


def encode_request(request: Request, reply_to: str | None = None) -> bytes:
    """Encode a request as the msgpack map that goes into the stream entry's field ``m``.

    Args:
        reply_to: instance to name as the waiting one instead of ``request.reply_to``.
    """
    message: dict[str, Any] = {"v": VERSION, "id": request.id, "ttl_ms": request.ttl_ms}
    if request.keep_ms is not None:
        message["keep_ms"] = request.keep_ms
    if request.inputs is not None:
        message["inputs"] = [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": tensor.data}
            for tensor in request.inputs
        ]
    else:
        message["ct"] = request.content_type
        if request.body is not None or (request.at is None and request.at_store is None):
            message["body"] = request.body
        elif request.at is not None:
            message["at"] = request.at
        else:
            message["at_store"] = request.at_store
    if reply_to is not None or request.reply_to is not None:
        message["rt"] = reply_to or request.reply_to
    if request.params:
        message["params"] = request.params
    if request.traceparent is not None:
        message["tp"] = request.traceparent
    if request.urgent:
        message["urgent"] = True
    if request.explain:
        message["explain"] = True
    return msgpack.packb(message)  # type: ignore[no-any-return]


_REQUEST_MEMBERS = frozenset(
    "v id ttl_ms keep_ms ct body at at_store inputs rt params tp urgent explain".split()  # noqa: SIM905
)


def decode_request(message: bytes) -> Request:
    """Decode and check a request.

    Raises:
        WireError: anything about it is wrong; ``request_id`` and ``reply_to`` are set when they could be read.
    """
    if len(message) > MAX_VALUES and holds_more_values(message, MAX_VALUES):
        request_id, reply_to = sender_of(message)
        raise WireError(what_is_wrong(message), request_id=request_id, reply_to=reply_to)
    value = unpack(message)
    if type(value) is not dict:
        raise WireError("A request must be a map.")
    request_id = value.get("id")
    reply_to = value.get("rt")
    if not is_name(request_id):
        raise WireError("A request needs an id of 1 to 64 letters, digits, '_' or '-'.", "id")
    if reply_to is not None and not is_name(reply_to):
        raise WireError("rt must be a valid instance name.", "rt", request_id=request_id)
    try:
        return _checked_request(value)
    except WireError as error:
        raise WireError(str(error), error.field, request_id=request_id, reply_to=reply_to) from None


def _check_version(version: Any) -> None:
    # reprlib cuts: what stands here may be a megabyte long, or nested too deeply for repr.
    if type(version) is not int or version != VERSION:
        shown = reprlib.repr(version)
        raise WireError(f"Version {shown} is not supported; this consumer speaks version {VERSION}.", "v")


def _check_duration(name: str, duration_ms: Any) -> None:
    if type(duration_ms) is not int or not 1 <= duration_ms <= LONGEST_MS:
        raise WireError(f"{name} must be a whole number from 1 to {LONGEST_MS}.", name)


def _checked_request(value: dict[str, Any]) -> Request:
    _check_version(value.get("v"))
    if not _REQUEST_MEMBERS.issuperset(value):
        unknown = next(iter(value.keys() - _REQUEST_MEMBERS))
        if type(unknown) is not str:
            raise WireError("Every key must be a string.")
        raise WireError(f"A request has no member {unknown[:80]!r}.", unknown[:80])
    _check_duration("ttl_ms", value.get("ttl_ms"))
    keep_ms = value.get("keep_ms")
    if keep_ms is not None:
        _check_duration("keep_ms", keep_ms)
    content_type, body, inputs, at = value.get("ct"), value.get("body"), value.get("inputs"), value.get("at")
    at_store = value.get("at_store")
    if sum(one is not None for one in (body, inputs, at, at_store)) != 1:
        raise WireError("A request must have either body or inputs.", "body")
    if inputs is None:
        if body is not None and type(body) is not bytes:
            raise WireError("body must be bytes.", "body")
        if at is not None and (type(at) is not str or len(at) > MAX_TEXT):
            raise WireError("at must be a short string.", "at")
        if at_store is not None and (type(at_store) is not str or len(at_store) > MAX_TEXT):
            raise WireError("at_store must be a short string.", "at_store")
        if type(content_type) is not str or len(content_type) > MAX_TEXT:
            raise WireError("ct must be the content type of body.", "ct")
    traceparent = value.get("tp")
    if traceparent is not None and (type(traceparent) is not str or len(traceparent) > MAX_TEXT):
        raise WireError("tp must be a short string.", "tp")
    params, urgent, explain = value.get("params"), value.get("urgent", False), value.get("explain", False)
    if type(urgent) is not bool:
        raise WireError("urgent must be true or false.", "urgent")
    if type(explain) is not bool:
        raise WireError("explain must be true or false.", "explain")
    return Request(
        id=value["id"],
        ttl_ms=value["ttl_ms"],
        content_type=content_type if inputs is None else None,
        body=body,
        inputs=None if inputs is None else _decode_inputs(inputs),
        reply_to=value.get("rt"),
        params={} if params is None else _decode_params(params),
        traceparent=traceparent,
        at=at,
        keep_ms=keep_ms,
        at_store=at_store,
        urgent=urgent,
        explain=explain,
    )


def _decode_params(params: Any) -> dict[str, Scalar]:
    if type(params) is not dict or len(params) > MAX_PARAMS:
        raise WireError(f"params must be a map with at most {MAX_PARAMS} members.", "params")
    for key, value in params.items():
        if type(key) is not str:
            raise WireError("Every key must be a string.", "params")
        if value is not None and type(value) not in (str, int, float, bool):
            raise WireError("A parameter must be a string, a number, a boolean or nil.", f"params.{key[:80]}")
    return params


def _decode_inputs(inputs: Any) -> tuple[Tensor, ...]:
    if type(inputs) is not list or not 1 <= len(inputs) <= MAX_INPUTS:
        raise WireError(f"inputs must be a list of 1 to {MAX_INPUTS} tensors.", "inputs")
    return tuple(decode_tensor(tensor, f"inputs[{index}]") for index, tensor in enumerate(inputs))


def check_elements(request: Request) -> None:
    """Check that the BYTES elements of a request fill their tensors, as :func:`decode_request` does.

    Raises:
        WireError: they do not; ``request_id`` and ``reply_to`` are set.
    """
    for index, tensor in enumerate(request.inputs or ()):
        if tensor.datatype == "BYTES":
            try:
                check_data(tensor.datatype, tensor.shape, tensor.data, f"inputs[{index}]")
            except WireError as error:
                told = {"request_id": request.id, "reply_to": request.reply_to}
                raise WireError(str(error), error.field, **told) from None


# --- replies -------------------------------------------------------------------------------------------------------


class ModelTag(msgspec.Struct, frozen=True):
    """Which model answered: name, version, and the precision it ran in."""

    name: str
    version: str
    precision: str


class Timing(msgspec.Struct, frozen=True):
    """A consumer's own durations in microseconds and the number of rows of the batch the request rode in.

    ``queue``: from entering the stream to being read. ``wait``: from being read to the start of the batch, decoding
    included. ``decode``: the part of that spent decoding. ``run``: the batch's inference.
    """

    queue: int = 0
    wait: int = 0
    decode: int = 0
    run: int = 0
    batch: int = 0


class Fault(msgspec.Struct, frozen=True):
    """Why a request has no result: a code of the outcome table, a sentence, and the wrong field if there is one."""

    code: str
    message: str
    field: str | None = None


class Prediction(msgspec.Struct, frozen=True):
    """One class with its probability; ``row`` is the row of the request it belongs to."""

    label: str
    index: int
    score: float
    row: int = 0


class Reply(msgspec.Struct, frozen=True):
    """One reply. Exactly one of ``predictions``, ``outputs``, ``fault``, ``at_store`` and ``generated`` is set.

    ``warnings`` are sentences about the model that every answer carries, such as that its weights are random.
    ``at_store`` says where in the result store the whole reply is (``shared/results/references.py``), ``ran`` where the
    request ran, if it asked for that.
    """

    id: str
    model: ModelTag
    timing: Timing
    attempt: int = 1
    predictions: Sequence[Prediction] | None = None
    outputs: Sequence[Tensor] | None = None
    fault: Fault | None = None
    warnings: Sequence[str] = ()
    at_store: str | None = None
    generated: Generated | None = None
    ran: Ran | None = None


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply as a msgpack map."""
    message: dict[str, Any] = {
        "v": VERSION,
        "id": reply.id,
        "ok": reply.fault is None,
        "seq": 0,
        "attempt": reply.attempt,
        "final": True,
        "model": asdict(reply.model),
        "t": asdict(reply.timing),
    }
    if reply.predictions is not None:
        message["predictions"] = [asdict(prediction) for prediction in reply.predictions]
    elif reply.outputs is not None:
        message["outputs"] = [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": tensor.data}
            for tensor in reply.outputs
        ]
    elif reply.fault is not None:
        message["error"] = asdict(reply.fault)
    elif reply.at_store is not None:
        message["at_store"] = reply.at_store
    elif reply.generated is not None:
        message["generated"] = msgspec.to_builtins(reply.generated)
    if reply.warnings:
        message["warnings"] = reply.warnings
    if reply.ran is not None:
        message["ran"] = ran_to(reply.ran)
    return msgpack.packb(message)  # type: ignore[no-any-return]


def decode_reply(message: bytes, most_values: int = sys.maxsize) -> Reply:
    """Decode a reply. Members this version does not know are ignored, so that consumers may be newer.

    Args:
        most_values: a message with more is refused before any is made; one prediction takes nine.

    Raises:
        WireError: not a reply of this version, or not a whole one.
    """
    value = unpack(message, most_values)
    try:
        _check_version(value["v"])
        if value.get("final", True) is not True:
            raise WireError("This is a part of a reply, and only whole ones are read.", "final")
        model, timing = value["model"], value["t"]
        error, predictions, outputs = value.get("error"), value.get("predictions"), value.get("outputs")
        return Reply(
            id=value["id"],
            model=ModelTag(model["name"], model["version"], model["precision"]),
            timing=Timing(timing["queue"], timing["wait"], timing["decode"], timing["run"], timing["batch"]),
            attempt=value["attempt"],
            predictions=None
            if predictions is None
            else [Prediction(p["label"], p["index"], p["score"], p.get("row", 0)) for p in predictions],
            outputs=None
            if outputs is None
            else [Tensor(o["name"], o["datatype"], tuple(o["shape"]), o["data"]) for o in outputs],
            fault=None if error is None else Fault(error["code"], error["message"], error.get("field")),
            warnings=value.get("warnings", ()),
            at_store=value.get("at_store"),
            generated=generated_from(value.get("generated")),
            ran=ran_from(value.get("ran")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise WireError(f"The reply is incomplete: {error!r}.") from None

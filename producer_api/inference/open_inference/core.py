"""From tensors to a message for the queue, and from a reply to output tensors: the same for REST and gRPC. Pure.

A classifier of this project answers with predictions unless the message's ``params`` ask for tensors. Here clients ask
for output tensors by default, and for classes by the protocol's classification extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from producer_api.inference.tensors import check_inputs_in_steps
from producer_api.parsing.schemas import BinaryTensor, InputTensor
from producer_api.parsing.steps import Steps
from producer_api.queue.admission import is_version, refusal
from shared.state.cards import ANSWER, TENSORS, Card, TensorSpec
from shared.wire.messages import MAX_INPUTS, Prediction, Reply, Request, Scalar, Tensor
from shared.wire.outcomes import MODEL_ERROR, NO_WORKER, RequestError, invalid

RAW = "application/octet-stream"

CLASSES = TensorSpec("classification", "BYTES", (-1,))
"""What a classifier that cannot answer with tensors offers: the classes of each row as ``score:index:label``."""

_OWN_FAMILIES = frozenset({"echo", "onnx", "timm", "torchvision"})
"""To these, raw rows and a tensor mean the same. Models of other families may look at tensors only."""

_TENSORS: Mapping[str, Scalar] = {ANSWER: TENSORS}
_NOTHING: Mapping[str, Scalar] = {}


class Wanted(Struct, frozen=True):
    """An output that a request asks for.

    Attributes:
        classes: return so many of the likeliest classes instead of the tensor; 0 returns the tensor.
        is_binary: REST only: its data come behind the JSON.
    """

    name: str
    classes: int = 0
    is_binary: bool = False


class Asked(Struct, frozen=True):
    """What a request wants of its answer.

    Attributes:
        outputs: in the order in which they are returned; never empty.
        needs_tensors: the model is a classifier that was asked for its outputs instead of predictions.
        rows: of the request.
        version: of the model, as the path names it; empty for any.
        client_id: the client's own name of the request, which need not be unique and is only echoed.
    """

    outputs: tuple[Wanted, ...]
    needs_tensors: bool
    rows: int
    version: str = ""
    client_id: str = ""


def offered(card: Card) -> tuple[TensorSpec, ...]:
    """Return the outputs that clients of the protocol may ask for; shapes leave out the rows."""
    if card.labels is None or TENSORS in card.answers or not card.answers:
        return card.outputs
    return (CLASSES,)


def check_outputs(wanted: Sequence[Wanted], card: Card, *, is_binary: bool = False) -> tuple[Wanted, ...]:
    """Check the outputs that a request names.

    Args:
        wanted: as the request has them; none means all.
        is_binary: how all of them are returned if none is named.

    Raises:
        RequestError: ``INVALID_INPUT``; its field names the output that is wrong.
    """
    specs = offered(card)
    if not wanted:
        return tuple(Wanted(spec.name, 0, is_binary) for spec in specs)
    names = {spec.name for spec in specs}
    seen: set[str] = set()
    checked = []
    for index, one in enumerate(wanted):
        path = f"outputs[{index}]"
        if one.name not in names:
            raise invalid(f"The model has no output of that name; it has {', '.join(sorted(names))}.", f"{path}.name")
        if one.name in seen:
            raise invalid(f"Output {one.name} is there twice.", f"{path}.name")
        seen.add(one.name)
        if one.classes < 0:
            raise invalid("The number of classes must be at least 0.", f"{path}.parameters.classification")
        if one.classes and card.labels is None:
            said = f"Output {one.name} has no classes: the model is no classifier."
            raise invalid(said, f"{path}.parameters.classification")
        checked.append(
            one if card.labels is None else Wanted(one.name, min(one.classes, len(card.labels)), one.is_binary)
        )
    return tuple(checked)


def request_in_steps(
    inputs: Sequence[InputTensor | BinaryTensor],
    outputs: tuple[Wanted, ...],
    card: Card,
    ttl_ms: int,
    request_id: str,
    traceparent: str | None = None,
) -> Steps[tuple[Request, int, bool]]:
    """Check the inputs and make the message for the queue.

    Args:
        inputs: tensors in any order; bytes in :class:`BinaryTensor`, JSON in :class:`InputTensor`.
        outputs: as :func:`check_outputs` returns them.

    Returns:
        The message, the rows of the request, and whether the model was asked for tensors instead of predictions.

    Raises:
        RequestError: ``INVALID_INPUT``, and ``NO_WORKER`` while only consumers of an older version serve the model.
    """
    tensors, params, needs_tensors = yield from checked_in_steps(inputs, outputs, card)
    request = message_of(tensors, params, card, ttl_ms, request_id, traceparent)
    return request, tensors[0].shape[0], needs_tensors


def checked_in_steps(
    inputs: Sequence[InputTensor | BinaryTensor], outputs: tuple[Wanted, ...], card: Card
) -> Steps[tuple[tuple[Tensor, ...], Mapping[str, Scalar], bool]]:
    """Return the inputs in the card's order, the message's ``params``, and whether those ask for tensors.

    Raises:
        RequestError: as :func:`request_in_steps`.
    """
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise invalid(f"A request has 1 to {MAX_INPUTS} inputs.", "inputs")
    needs_tensors = card.labels is not None and outputs[0].name != CLASSES.name and not outputs[0].classes
    if needs_tensors and TENSORS not in card.answers:
        raise _too_old(card.name)
    params = _TENSORS if needs_tensors else _classes(outputs[0])
    return (yield from check_inputs_in_steps(inputs, card)), params, needs_tensors


def message_of(
    tensors: tuple[Tensor, ...],
    params: Mapping[str, Scalar],
    card: Card,
    ttl_ms: int,
    request_id: str,
    traceparent: str | None,
) -> Request:
    """Make the message for the queue of checked inputs."""
    if _are_rows(tensors, card):
        # As a body it may pass through shared memory.
        return Request(request_id, ttl_ms, RAW, tensors[0].data, params=params, traceparent=traceparent)
    return Request(request_id, ttl_ms, inputs=tensors, params=params, traceparent=traceparent)


def _classes(output: Wanted) -> Mapping[str, Scalar]:
    return {"top_k": output.classes} if output.classes else _NOTHING


def _are_rows(tensors: Sequence[Tensor], card: Card) -> bool:
    """Say whether the data of the only input mean the same as the body of a request."""
    if len(tensors) > 1 or card.family not in _OWN_FAMILIES or RAW not in card.content_types:
        return False
    spec = card.inputs[0]
    return spec.row_bytes() is not None or (
        tensors[0].shape[0] == 1 and spec.shape == (-1,) and spec.datatype == "UINT8"
    )


def _too_old(model: str) -> RequestError:
    message = (
        f"Consumers of an older version serve model {model!r}, and cannot answer with tensors; ask for classes, or "
        "again when they have been replaced."
    )
    return refusal(NO_WORKER, message)


def tensors_of(reply: Reply, asked: Asked) -> list[Tensor]:
    """Return the outputs that were asked for, in that order.

    Args:
        reply: one without a fault.

    Raises:
        RequestError: ``NO_WORKER``: a consumer of an older version, or of another version of the model than the path
            names, has answered; ``MODEL_ERROR``: an output is missing.
    """
    if asked.version and not is_version(asked.version, reply.model.version):
        message = (
            f"Version {reply.model.version} of model {reply.model.name!r} has answered: consumers serve several "
            "versions at once. Ask again, or without a version."
        )
        raise refusal(NO_WORKER, message)
    if reply.predictions is not None:
        if asked.needs_tensors:
            raise _too_old(reply.model.name)
        return [Tensor(asked.outputs[0].name, "BYTES", *_packed(reply.predictions, asked.rows))]
    found = {tensor.name: tensor for tensor in reply.outputs or ()}
    try:
        return [found[one.name] for one in asked.outputs]
    except KeyError as missing:
        raise RequestError(MODEL_ERROR, f"The model's answer has no output {str(missing)[:80]}.") from None


def _packed(predictions: Sequence[Prediction], rows: int) -> tuple[tuple[int, int], bytes]:
    """Return shape and elements of predictions: the classes of each row, with empty ones where there are fewer."""
    of_rows: list[list[bytes]] = [[] for _ in range(rows)]
    for one in predictions:
        if 0 <= one.row < rows:
            of_rows[one.row].append(f"{one.score:.6f}:{one.index}:{one.label}".encode())
    count = max(map(len, of_rows), default=0)
    parts: list[bytes] = []
    for row in of_rows:
        for text in (*row, *[b""] * (count - len(row))):
            parts += (len(text).to_bytes(4, "little"), text)
    return (rows, count), b"".join(parts)

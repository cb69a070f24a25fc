"""What the JSON of a request means, remembered by its bytes. Pure.

A client sends the same JSON again and again, in front of other data: names, shapes and sizes stay. What was checked
against a model's card once is not checked again; the bytes behind it are cut and looked at as always.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from producer_api.parsing.elements import is_finite
from producer_api.parsing.steps import LARGE_BYTES
from shared.state.cards import Card
from shared.wire.messages import Request, Scalar, Tensor
from shared.wire.outcomes import invalid

from .core import RAW, Wanted
from .documents import InferParameters, InferRequest

MOST_BYTES = 1024
"""A longer JSON is not remembered."""

MOST = 256
"""So many are; the one used longest ago goes first."""


class Part(Struct, frozen=True):
    """A binary tensor: where its bytes are, counted from the end of the JSON.

    Attributes:
        number: its place among the inputs, for errors.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    start: int
    end: int
    number: int


class Plan(Struct, frozen=True):
    """A request without its data.

    Attributes:
        card: that it was checked against.
        parts: the inputs in the card's order.
        size_bytes: of all data.
        has_floats: the data must be looked at.
        is_body: the data of the only input are the message's body.
        params: of the message.
    """

    card: Card
    parts: tuple[Part, ...]
    size_bytes: int
    has_floats: bool
    is_body: bool
    params: Mapping[str, Scalar]
    outputs: tuple[Wanted, ...]
    needs_tensors: bool
    rows: int
    parameters: InferParameters

    def request(self, body: bytes, start: int, ttl_ms: int, request_id: str, traceparent: str | None) -> Request:
        """Make the message for the queue.

        Args:
            start: where the data begin in ``body``.

        Raises:
            RequestError: ``INVALID_INPUT``: a number is not finite.
        """
        if self.is_body:
            data = body[start:]
            if self.has_floats:
                _check(self.parts[0], data)
            return Request(request_id, ttl_ms, RAW, data, params=self.params, traceparent=traceparent)
        inputs = []
        for part in self.parts:
            data = body[start + part.start : start + part.end]
            _check(part, data)
            inputs.append(Tensor(part.name, part.datatype, part.shape, data))
        return Request(request_id, ttl_ms, inputs=tuple(inputs), params=self.params, traceparent=traceparent)


def _check(part: Part, data: bytes) -> None:
    if not is_finite(part.datatype, data):
        raise invalid("Data holds NaN or an infinity.", f"inputs[{part.number}].data")


class Plans:
    """The plans of all models, by the bytes of their JSON."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Plan] = OrderedDict()

    def get(self, document: bytes, card: Card, size_bytes: int) -> Plan | None:
        """Return the plan of a request with so many bytes of data, if it can be carried out at once."""
        plan = self._known.get(document)
        if plan is None or plan.card is not card or plan.size_bytes != size_bytes:
            return None
        if plan.has_floats and size_bytes > LARGE_BYTES:
            return None
        self._known.move_to_end(document)
        return plan

    def learn(
        self,
        document: bytes,
        card: Card,
        asked: InferRequest,
        tensors: Sequence[Tensor],
        request: Request,
        outputs: tuple[Wanted, ...],
        needs_tensors: bool,
    ) -> None:
        """Remember a request that has just been checked, if it is of the common kind.

        Args:
            tensors: its inputs in the card's order.
            request: the message that was made of it.
        """
        if len(document) > MOST_BYTES or asked.id:
            return
        places: dict[str, tuple[int, int, int]] = {}
        at = 0
        for number, one in enumerate(asked.inputs):
            size = None if one.parameters is None else one.parameters.binary_data_size
            if size is None or one.datatype in ("BF16", "BYTES"):
                return
            places[one.name] = (at, at + size, number)
            at += size
        parts = tuple(Part(one.name, one.datatype, one.shape, *places[one.name]) for one in tensors)
        self._known[document] = Plan(
            card,
            parts,
            at,
            any(part.datatype.startswith("FP") for part in parts),
            request.inputs is None,
            request.params,
            outputs,
            needs_tensors,
            tensors[0].shape[0],
            asked.parameters or InferParameters(),
        )
        if len(self._known) > MOST:
            self._known.popitem(last=False)

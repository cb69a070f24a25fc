"""The JSON of inference over REST: what is decoded, what is encoded, and the OpenAPI document's schemas of both.

https://github.com/open-inference/open-inference-protocol, and Triton's extensions for binary data, classification,
schedule policy and parameters, as far as clients send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from producer_api.parsing import validation
from producer_api.parsing.schemas import Shape
from shared.state.cards import ITEM_BYTES
from shared.wire.messages import MAX_INPUTS, MAX_TEXT
from shared.wire.outcomes import UNSUPPORTED, RequestError

MOST_PRIORITY = 2**32 - 1
MOST_TIMEOUT_US = 2**63 - 1

Name = Annotated[str, Meta(max_length=MAX_TEXT)]
Datatype = Annotated[str, Meta(extra_json_schema={"enum": [*ITEM_BYTES, "BF16", "BYTES"]})]
_OnlyNull = Annotated[Any, Meta(description="Not supported.", extra_json_schema={"type": "null"})]
_NotTrue = Annotated[bool | None, Meta(extra_json_schema={"enum": [False, None]})]
_Ignored = Annotated[str, Meta(max_length=MAX_TEXT, description="Accepted and ignored.")]


class SharedMemory(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the shared memory extensions, which are refused: front ends read no memory of their clients."""

    shared_memory_region: _OnlyNull = None
    shared_memory_byte_size: _OnlyNull = None
    shared_memory_offset: Any = None

    def check(self, path: str) -> None:
        """Refuse them.

        Raises:
            RequestError: ``UNSUPPORTED``.
        """
        if self.shared_memory_region is not None or self.shared_memory_byte_size is not None:
            raise unsupported("Shared memory", f"{path}.parameters.shared_memory_region")


class InputParameters(SharedMemory, frozen=True):
    """Options of one input."""

    binary_data_size: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Its bytes behind the JSON.")] | None = None
    content_type: _Ignored | None = None


class InferInput(Struct, frozen=True, forbid_unknown_fields=True):
    """One input: its data are in the JSON, or follow it."""

    name: Name
    shape: Shape
    datatype: Datatype
    parameters: InputParameters | None = None
    data: Annotated[
        msgspec.Raw,
        Meta(description="Elements, row by row: flat, or nested like the shape.", extra_json_schema={"type": "array"}),
    ] = field(default_factory=msgspec.Raw)


class OutputParameters(SharedMemory, frozen=True):
    """Options of one output."""

    binary_data: Annotated[bool, Meta(description="Its data follow the JSON.")] | None = None
    classification: (
        Annotated[int, Meta(ge=0, le=2**31 - 1, description="So many classes, as `score:index:label`.")] | None
    ) = None
    content_type: _Ignored | None = None


class InferOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """One output that is asked for."""

    name: Name
    parameters: OutputParameters | None = None


class InferParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a request."""

    timeout: (
        Annotated[int, Meta(ge=0, le=MOST_TIMEOUT_US, description="Microseconds the answer is worth waiting for.")]
        | None
    ) = None
    priority: Annotated[int, Meta(ge=0, le=MOST_PRIORITY, description="Accepted; lanes decide.")] | None = None
    binary_data_output: Annotated[bool, Meta(description="The data of all outputs follow the JSON.")] | None = None
    sequence_id: Annotated[
        int | str | None,
        Meta(description="Only 0 or an empty text: there are no sequences.", extra_json_schema={"enum": [0, "", None]}),
    ] = None
    sequence_start: _NotTrue = None
    sequence_end: _NotTrue = None
    content_type: _Ignored | None = None


class InferRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request for inference, or the part of one in front of its binary data."""

    inputs: Annotated[list[InferInput], Meta(min_length=1, max_length=MAX_INPUTS)]
    id: Annotated[str, Meta(max_length=MAX_TEXT, description="Comes back in the answer.")] | None = None
    parameters: InferParameters | None = None
    outputs: Annotated[list[InferOutput], Meta(max_length=MAX_INPUTS)] | None = None


class BinarySize(Struct, frozen=True):
    """The bytes of an output behind the JSON."""

    binary_data_size: int


class InferredOutput(Struct, frozen=True):
    """One output. The C++ client fails on ``parameters`` without ``binary_data_size``: they are there only with it."""

    name: str
    datatype: Datatype
    shape: Sequence[int]
    parameters: BinarySize | UnsetType = UNSET
    data: Annotated[
        Any,
        Meta(
            description="A flat list, where null stands for a number that is not finite.",
            extra_json_schema={"type": "array"},
        ),
    ] = UNSET


class InferResponse(Struct, frozen=True, kw_only=True):
    """An answer, or the part of one in front of its binary data."""

    model_name: str
    model_version: str
    id: str | UnsetType = UNSET
    outputs: list[InferredOutput]


class InferError(Struct, frozen=True):
    """Every error has this shape."""

    error: str


_decoder = msgspec.json.Decoder(InferRequest)


def from_json(document: bytes) -> InferRequest:
    """Decode a request as far as its schema says.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    return validation.from_json(_decoder, document, "The body does not begin with valid JSON")


def unsupported(what: str, field: str | None = None) -> RequestError:
    """Make the error for a part of the protocol that there is not."""
    return RequestError(UNSUPPORTED, f"{what} is not supported.", field=field)

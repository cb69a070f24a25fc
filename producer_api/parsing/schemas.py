"""Shapes of requests and answers, in JSON and msgpack; ``service_schemas.py`` has those about models.

The same classes decode, encode and make the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from producer_api.request_log.story import Span
from shared.names import NAME_PATTERN
from shared.state.cards import ITEM_BYTES
from shared.wire.generated import Generated
from shared.wire.messages import MAX_DIMENSIONS, MAX_INPUTS, MAX_TEXT

MAX_TOP_K = 1000

_NUMBERS = {"type": ["number", "boolean", "string", "null"]}
_DATATYPE = Meta(description="Element type.", extra_json_schema={"enum": [*ITEM_BYTES, "BYTES"]})

Datatype = Annotated[str, _DATATYPE]
Shape = Annotated[
    list[Annotated[int, Meta(ge=0, le=2**31 - 1)]],
    Meta(max_length=MAX_DIMENSIONS, description="One row's shape, or the row count and then one row's shape."),
]
RequestId = Annotated[
    str,
    Meta(
        pattern=f"^{NAME_PATTERN}$",
        description="Your own name of the request: 1 to 64 letters, digits, '_' or '-'. Asking again with it is safe.",
    ),
]


class TensorHead(Struct, frozen=True, forbid_unknown_fields=True):
    """What every input tensor says of itself, apart from its data."""

    name: Annotated[str, Meta(max_length=MAX_TEXT)]
    shape: Shape
    datatype: Datatype


class InputTensor(TensorHead, frozen=True):
    """One input tensor in JSON."""

    data: Annotated[
        msgspec.Raw,
        Meta(
            description="Elements as one flat list or nested like the shape: numbers, true and false for BOOL, strings "
            "for BYTES.",
            extra_json_schema={"type": "array"},
        ),
    ]


class MsgpackTensor(TensorHead, frozen=True):
    """One input tensor in msgpack, where data may also be bytes: little-endian, row-major."""

    data: msgspec.Raw


class BinaryTensor(TensorHead, frozen=True):
    """One input tensor whose data came as bytes: little-endian, row-major. BF16 may stand for FP32 or FP16."""

    data: bytes


class Parameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of one request."""

    top_k: Annotated[int, Meta(ge=1, le=MAX_TOP_K, description="How many classes to return.")] | None = None
    timeout_ms: (
        Annotated[int, Meta(ge=1, description="How long the answer is worth waiting for, in milliseconds.")] | None
    ) = None
    id: RequestId | None = None
    truncate: (
        Annotated[bool, Meta(description="Whether texts longer than the model's context are cut instead of refused.")]
        | None
    ) = None
    explain: Annotated[bool, Meta(description="Whether `timing` is to say where all of the time went.")] | None = None


class PredictRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request in JSON: one of inputs, image_base64 and, for models that generate text, generate."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=MAX_INPUTS)] | None = None
    image_base64: Annotated[str, Meta(description="A JPEG, PNG or WebP file in base64, or its data: URL.")] | None = (
        None
    )
    generate: (
        Annotated[
            msgspec.Raw,
            Meta(
                description="What to generate: prompt, tokens or messages, and options such as max_tokens.",
                extra_json_schema={"type": "object"},
            ),
        ]
        | UnsetType
    ) = UNSET
    parameters: Parameters | None = None


class PredictMsgpack(Struct, frozen=True, forbid_unknown_fields=True):
    """A request in msgpack: exactly one of inputs, image and image_base64."""

    inputs: Annotated[list[MsgpackTensor], Meta(min_length=1, max_length=MAX_INPUTS)] | None = None
    image: bytes | None = None
    image_base64: str | None = None
    parameters: Parameters | None = None


class PredictionOut(Struct, frozen=True):
    """One class. ``row`` is there only when the request had several rows."""

    label: str
    index: int
    score: Annotated[float | None, Meta(description="Probability from 0 to 1.")]
    row: int | UnsetType = UNSET


class OutputTensor(Struct, frozen=True):
    """One output tensor; the shape leads with the row count."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: Annotated[
        Any,
        Meta(
            description="JSON: a flat list, where null stands for a number that is not finite. "
            "msgpack: little-endian bytes.",
            extra_json_schema={"type": "array", "items": _NUMBERS},
        ),
    ]


class TimingOut(Struct, frozen=True):
    """Where the time went, in milliseconds, and how many rows shared the batch.

    The rest is there only if it was asked for: which consumer, which batch and why it closed, the attempt, all spans.
    """

    queue_ms: float
    batch_wait_ms: float
    inference_ms: float
    total_ms: float
    batch_size: int
    worker: str | UnsetType = UNSET
    batch: str | UnsetType = UNSET
    closed: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    spans: list[Span] | UnsetType = UNSET
    first_token_ms: float | UnsetType = UNSET
    note: str | UnsetType = UNSET


class PredictResponse(Struct, frozen=True, kw_only=True):
    """The answer: predictions from classifiers, outputs from other models, generated from those that generate text."""

    id: str
    model: str
    version: str
    predictions: list[PredictionOut] | UnsetType = UNSET
    outputs: list[OutputTensor] | UnsetType = UNSET
    generated: Generated | UnsetType = UNSET
    timing: TimingOut
    warnings: list[str] | UnsetType = UNSET


class ErrorDetail(Struct, frozen=True):
    """What went wrong, which part of the request is wrong, and the request's id if it has one."""

    code: str
    message: str
    field: str | None
    id: str | None


class ErrorResponse(Struct, frozen=True):
    """Every error has this shape."""

    error: ErrorDetail


class RequestState(Struct, frozen=True):
    """How a request stands: ``queued``, ``claimed`` by a worker, so perhaps running, or ``cancelled``.

    One that is fetched later is ``running`` instead of ``claimed``, and while it is queued has its place in the line.
    """

    id: str
    model: str
    status: str
    position: int | UnsetType = UNSET


Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class NewUpload(Struct, frozen=True, forbid_unknown_fields=True):
    """What begins an upload: the length of the whole body, its SHA-256 if you know it, and the length of the parts if
    they are to be shorter than usual."""

    bytes: Annotated[int, Meta(ge=1, le=1 << 50)]
    sha256: Sha256 | None = None
    part_bytes: Annotated[int, Meta(ge=1024)] | None = None


class UploadState(Struct, frozen=True):
    """How an upload stands: ``open`` or ``complete``. All parts have ``part_bytes`` bytes, the last one the rest."""

    id: str
    status: str
    bytes: int
    part_bytes: int
    parts: int
    received: list[int]
    expires_in_s: int
    sha256: str | UnsetType = UNSET


class RequestEvent(Struct, frozen=True):
    """The data of an event about a later request.

    ``status``: ``queued``, ``running``, ``done``, ``failed``, ``cancelled`` or ``expired``. ``code``: the outcome, once
    it has ended; ``location``: where to fetch the answer.
    """

    id: str
    model: str
    status: str
    location: str
    position: int | UnsetType = UNSET
    code: str | UnsetType = UNSET

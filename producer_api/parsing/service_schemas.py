"""The JSON shapes that say what is served, and how it stands. The same classes encode and make the OpenAPI document."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from producer_api.queue.interface import Condition, ModelState
from shared.state.cards import BatchSettings, CacheSettings, Card, Example, TensorSpec, Tuning
from shared.state.desired_state import Serving


class ModelSummary(Struct, frozen=True):
    """One line of the list of models.

    ``ready``: it is described, a worker is alive, and it accepts requests. ``serving``: the operator's desired state.
    ``state``: ``ready``; ``loading``, with ``ready_in_s``, the seconds that will probably take; ``draining``;
    ``silent``: its consumers claim requests and answer none; ``failed``: they died or cannot load it; ``away``: it
    has none.
    ``held_until_s``: no consumer serves it, and requests wait for one, which will probably take so many seconds.
    ``failures``: a sentence on each consumer that died and has not run well since; left out if there is none.
    """

    name: str
    version: str | None
    family: str | None
    precision: str | None
    workers: int
    queued: int
    ready: bool
    serving: Serving = Serving.OPEN
    state: Condition = Condition.READY
    ready_in_s: int | UnsetType = UNSET
    held_until_s: int | UnsetType = UNSET
    failures: list[str] | UnsetType = UNSET


class ModelEntry(Struct, frozen=True):
    """One model as OpenAI's clients read it; ``created`` is when the front end started, in seconds since 1970."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct, frozen=True):
    """All models, in two shapes: ``models`` says how each stands, and ``object`` and ``data`` are OpenAI's list."""

    models: list[ModelSummary]
    object: str
    data: list[ModelEntry]


class ModelInfo(Struct, frozen=True, kw_only=True):
    """Everything known of a model. Shapes leave out the row count; -1 allows any size there.

    ``answers``: what answers can hold, ``predictions``, ``tensors`` or both; empty while an older consumer serves it.
    ``task``: what it does with texts; empty where it takes none. ``context``: most tokens of a text. ``dimensions``,
    ``pooling`` and ``normalize``: of its vectors, if it makes vectors of texts.
    ``cache``: what front ends keep of its answers; null for nothing.
    ``ready``, ``state`` and ``ready_in_s`` are those of the list of models; ``id``, ``object``, ``created`` and
    ``owned_by`` are what OpenAI's clients read.
    """

    name: str
    version: str
    family: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] | None
    content_types: tuple[str, ...]
    precision: str
    device: str
    batch: BatchSettings
    warnings: tuple[str, ...]
    runtime: str
    tuning: Tuning | None
    precision_reason: str
    example: Example | None
    answers: tuple[str, ...]
    task: str
    context: int | None
    dimensions: int | None
    pooling: str
    normalize: bool | None
    cache: CacheSettings | None
    workers: int
    ready: bool
    serving: Serving
    state: Condition
    ready_in_s: int | UnsetType = UNSET
    id: str
    object: str
    created: int
    owned_by: str

    @classmethod
    def of(cls, card: Card, state: ModelState, entry: ModelEntry) -> ModelInfo:
        """Join a card, how the model stands, and what OpenAI's clients read."""
        return cls(
            **msgspec.structs.asdict(card),
            **msgspec.structs.asdict(entry),
            workers=state.workers,
            ready=state.is_ready,
            serving=state.serving,
            state=state.condition,
            ready_in_s=UNSET if state.ready_in_s is None else state.ready_in_s,
        )


class Health(Struct, frozen=True):
    """The process runs."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether a request sent now can be answered, and why not.

    Without a valid API key, where keys are required, only ``ready`` is shown: ``redis`` is null, and
    there are no ``models``.
    """

    ready: bool
    redis: bool | None
    reasons: list[str]
    models: list[ModelSummary]


class VersionInfo(Struct, frozen=True):
    """What is running. ``protocol`` is the version of the messages on the stream."""

    name: str
    version: str
    protocol: int
    commit: str | None

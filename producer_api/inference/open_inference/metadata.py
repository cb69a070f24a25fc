"""What the protocol says of server and models, from their cards: metadata, configuration, statistics. Pure.

Shapes in metadata begin with the rows; ``max_batch_size`` and ``dims`` in configurations leave them out, as Triton
does. Keys of a configuration that are there are complete: perf_analyzer and the C++ client rely on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from producer_api.inference.statistics import Counts
from producer_api.queue.admission import numbered
from producer_api.queue.interface import ModelState
from shared.state.cards import Card, TensorSpec

from .core import offered
from .documents import Datatype

EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "parameters",
    "schedule_policy",
    "statistics",
    "model_configuration",
    "model_repository",
)


class ServerLive(Struct, frozen=True):
    """The process runs."""

    live: bool


class ServerReady(Struct, frozen=True):
    """Whether a request sent now can be answered."""

    ready: bool


class ModelReady(Struct, frozen=True):
    """Whether the model takes requests and answers them."""

    name: str
    ready: bool


class ServerMetadata(Struct, frozen=True):
    """The server, and which parts of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Struct, frozen=True):
    """An input or output; the first size is that of the rows, and -1 allows any."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(Struct, frozen=True):
    """A model. Versions are whole numbers: one that is called otherwise is shown as 1."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputConfiguration(Struct, frozen=True):
    """An input without the rows."""

    name: str
    data_type: str
    dims: list[int]
    format: str = "FORMAT_NONE"
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False
    optional: bool = False


class OutputConfiguration(Struct, frozen=True):
    """An output without the rows."""

    name: str
    data_type: str
    dims: list[int]
    label_filename: str = ""
    is_shape_tensor: bool = False


class Batching(Struct, frozen=True):
    """When a batch closes."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int
    preserve_ordering: bool = False


class ModelConfiguration(Struct, frozen=True):
    """A model's configuration, as far as it applies here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[InputConfiguration]
    output: list[OutputConfiguration]
    dynamic_batching: Batching


class RepositoryEntry(Struct, frozen=True):
    """One line of the repository's index."""

    name: str
    version: str
    state: Annotated[str, Meta(extra_json_schema={"enum": ["READY", "UNAVAILABLE"]})]
    reason: str = ""


class Duration(Struct, frozen=True):
    """So many, which took so many nanoseconds together."""

    count: int
    ns: int


class Durations(Struct, frozen=True):
    """Where the time of requests went."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class ModelStatistics(Struct, frozen=True):
    """What one front end has counted of a model since it started."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: Durations
    batch_stats: list[dict[str, int]]


class StatisticsResponse(Struct, frozen=True):
    """The statistics of some models."""

    model_stats: list[ModelStatistics]


def server_metadata(version: str) -> ServerMetadata:
    """Describe the server of this version."""
    return ServerMetadata("headrace", version, list(EXTENSIONS))


def versions_of(state: ModelState, card: Card) -> list[str]:
    """Return the versions that are served, as whole numbers."""
    return list(dict.fromkeys(numbered(one) for one in state.versions or (card.version,)))


def metadata(state: ModelState, card: Card) -> ModelMetadata:
    """Describe a model."""
    return ModelMetadata(
        state.name, versions_of(state, card), _platform(card), _tensors(card.inputs), _tensors(offered(card))
    )


def _platform(card: Card) -> str:
    return f"headrace_{card.family}"


def _tensors(specs: Sequence[TensorSpec]) -> list[TensorMetadata]:
    return [TensorMetadata(spec.name, spec.datatype, [-1, *spec.shape]) for spec in specs]


def configuration(card: Card) -> ModelConfiguration:
    """Return a model's configuration."""
    batch = card.batch
    return ModelConfiguration(
        card.name,
        _platform(card),
        "headrace",
        batch.max_batch,
        [InputConfiguration(spec.name, _data_type(spec), list(spec.shape)) for spec in card.inputs],
        [OutputConfiguration(spec.name, _data_type(spec), list(spec.shape)) for spec in offered(card)],
        Batching([batch.preferred or batch.max_batch], int(batch.window_ms * 1000)),
    )


def _data_type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"


def repository_entry(state: ModelState) -> RepositoryEntry:
    """Return a model's line in the index of the repository."""
    version = "" if state.card is None else versions_of(state, state.card)[0]
    reason = "" if state.is_ready else f"{state.condition.value}"
    return RepositoryEntry(state.name, version, "READY" if state.is_ready else "UNAVAILABLE", reason)


def statistics(state: ModelState, card: Card, counts: Counts) -> ModelStatistics:
    """Return what was counted of a model."""
    done = counts.succeeded
    nothing = Duration(0, 0)
    durations = Durations(
        Duration(done, counts.took_ns),
        Duration(counts.failed, counts.failed_ns),
        Duration(done, counts.queue_ns),
        Duration(done, counts.decode_ns),
        Duration(done, counts.run_ns),
        Duration(done, 0),  # the time for encoding answers is in the metrics of consumers only
        nothing,
        nothing,
    )
    executions = max(int(counts.batches), min(1, done))
    return ModelStatistics(
        state.name, versions_of(state, card)[0], counts.last_ms, counts.rows, executions, durations, []
    )

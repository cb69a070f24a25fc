"""Files and batches as OpenAI's clients read them. Pure.

https://platform.openai.com/docs/api-reference/files, https://platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from producer_api.bulk.record import Record
from producer_api.parsing.bulk_schemas import State
from shared.wire.outcomes import UNKNOWN_BATCH, RequestError, invalid

from .files import LONGEST_KEEP_S, FileRecord
from .terms import Terms

_HEX: Final = "[0-9a-f]{24}"
_BATCH: Final = re.compile(rf"batch_({_HEX})_([A-Za-z0-9_-]{{1,64}})\Z")
_RESULTS: Final = re.compile(rf"file-(output|errors)_({_HEX})_([A-Za-z0-9_-]{{1,64}})\Z")
_STATUS: Final = {
    State.RECEIVING: "validating",
    State.QUEUED: "in_progress",
    State.RUNNING: "in_progress",
    State.CANCELLING: "cancelling",
    State.COMPLETED: "completed",
    State.CANCELLED: "cancelled",
    State.FAILED: "failed",
}
_MOST_METADATA: Final = 16


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a file stays, counted from when it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3600, le=LONGEST_KEEP_S)]


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new batch: the lines of a file, all for one model; ``completion_window`` such as 24h, 90m or 7d."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class FileObject(Struct, frozen=True):
    """A file. ``bytes`` of a batch's results is what they take in the store; their lines may be longer."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"


class FileList(Struct, frozen=True):
    """Files, the latest first."""

    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: str = "list"


class FileDeleted(Struct, frozen=True):
    """A file that is deleted."""

    id: str
    object: str = "file"
    deleted: bool = True


class BatchError(Struct, frozen=True):
    """Why a batch failed."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(Struct, frozen=True):
    """Why a batch failed, as a list."""

    data: list[BatchError]
    object: str = "list"


class RequestCounts(Struct, frozen=True):
    """Items: in all, answered, ended with an error."""

    total: int
    completed: int
    failed: int


class BatchObject(Struct, frozen=True, kw_only=True):
    """A batch. Times are seconds of the Unix epoch."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchPage(Struct, frozen=True):
    """Batches, the latest first."""

    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: str = "list"


requests: Final = msgspec.json.Decoder(BatchRequest)


def check_metadata(metadata: dict[str, str] | None) -> None:
    """Refuse more than OpenAI takes: 16 pairs, keys of 64 and values of 512 characters.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    if metadata is None:
        return
    if len(metadata) > _MOST_METADATA or any(len(key) > 64 or len(value) > 512 for key, value in metadata.items()):
        raise invalid("Metadata has at most 16 keys of 64 characters, and values of 512.", "metadata")


def file_object(record: FileRecord) -> FileObject:
    """Describe an uploaded file."""
    return FileObject(
        record.id, record.size_bytes, record.created_s, record.expires_s, record.file_name, record.purpose
    )


def batch_id(record: Record) -> str:
    """Return a batch's name here: that of the bulk batch, and its model, which the paths of OpenAI do not name."""
    return f"batch_{record.id.removeprefix('b-')}_{record.model}"


def names_of(batch: str) -> tuple[str, str]:
    """Return model and bulk batch of a batch's name.

    Raises:
        RequestError: ``UNKNOWN_BATCH``.
    """
    found = _BATCH.match(batch)
    if found is None:
        raise RequestError(UNKNOWN_BATCH, f"There is no batch {batch[:80]!r}; its time may be over.", field="id")
    return found[2], f"b-{found[1]}"


def results_of(file_id: str) -> tuple[str, str, bool] | None:
    """Return model and bulk batch of a file of results, and whether it has the errors; None where it is none."""
    found = _RESULTS.match(file_id)
    return None if found is None else (found[3], f"b-{found[2]}", found[1] == "errors")


def results_id(record: Record, *, errors: bool) -> str:
    """Return the name of a file of results."""
    return f"file-{'errors' if errors else 'output'}_{record.id.removeprefix('b-')}_{record.model}"


def results_object(record: Record, size_bytes: int, *, errors: bool) -> FileObject:
    """Describe a file of results."""
    kind = "errors" if errors else "output"
    expires_s = (record.ended_ms + record.keep_ms) // 1000
    name, file_id = f"{batch_id(record)}_{kind}.jsonl", results_id(record, errors=errors)
    return FileObject(file_id, size_bytes, record.ended_ms // 1000, expires_s, name, "batch_output")


def batch_object(record: Record, terms: Terms) -> BatchObject:
    """Describe a batch."""
    is_expired = record.state is State.FAILED and 0 < record.ends_by_ms <= record.failed_ms
    failed_at = _seconds(record.failed_ms)
    errors = None
    if record.state is State.FAILED and not is_expired:
        errors = BatchErrors([BatchError("batch_failed", record.reason or "The batch failed.")])
    done = record.has_ended
    return BatchObject(
        id=batch_id(record),
        endpoint=terms.endpoint,
        model=record.model,
        errors=errors,
        input_file_id=terms.input_file_id,
        completion_window=terms.completion_window,
        status="expired" if is_expired else _STATUS[record.state],
        output_file_id=results_id(record, errors=False) if done and record.done > record.failed else None,
        error_file_id=results_id(record, errors=True) if done and record.failed else None,
        created_at=record.receiving_ms // 1000,
        in_progress_at=_seconds(record.running_ms or record.queued_ms),
        expires_at=record.ends_by_ms // 1000,
        finalizing_at=_seconds(record.completed_ms),
        completed_at=_seconds(record.completed_ms),
        failed_at=None if is_expired else failed_at,
        expired_at=failed_at if is_expired else None,
        cancelling_at=_seconds(record.cancelling_ms),
        cancelled_at=_seconds(record.cancelled_ms),
        request_counts=RequestCounts(record.total, record.done - record.failed, record.failed),
        metadata=terms.metadata,
    )


def _seconds(time_ms: int) -> int | None:
    return time_ms // 1000 if time_ms else None

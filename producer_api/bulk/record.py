"""The record of a batch: how it stands, as Redis stores it and as its owner sees it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from producer_api.parsing.bulk_schemas import BatchInfo, Counts, State

ENDED: Final = frozenset({State.COMPLETED, State.CANCELLED, State.FAILED})

LONGEST_RUN_MS: Final = 7 * 86_400_000
"""A batch that takes longer is given up."""


class Record(Struct, frozen=True, kw_only=True):
    """What Redis stores of a batch. Times are Redis's, in ms of the Unix epoch, 0 for not yet.

    Attributes:
        epoch: number of its driver.
        total, done, failed, in_flight: items in all, with a result, with an error as their result, in the lane.
        reserved: no item from this number on has been put into the lane.
        rate: items per second, lately.
        keep_ms: how long its results stay once it has ended.
        reason: why it failed, or what it waits for; empty for nothing.
        hook: where its webhooks go, in JSON; empty for nowhere.
        window_ms: how long it may take, 0 for ``LONGEST_RUN_MS``.
        urgent: 1 while its items wait for gaps no longer, 0 while they do; empty where it is in no batch lane.
        terms: what another dialect than our own says of it, in JSON; empty for our own.
    """

    id: str
    model: str
    lane: str
    state: State
    epoch: str = "0"
    total: int = 0
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    reserved: int = 0
    rate: float = 0.0
    bytes: int = 0
    keep_ms: int = 0
    reason: str = ""
    hook: str = ""
    window_ms: int = 0
    urgent: str = ""
    terms: str = ""
    receiving_ms: int = 0
    queued_ms: int = 0
    running_ms: int = 0
    cancelling_ms: int = 0
    completed_ms: int = 0
    cancelled_ms: int = 0
    failed_ms: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ENDED

    @property
    def ends_by_ms(self) -> int:
        """When it is given up."""
        return self.receiving_ms + (self.window_ms or LONGEST_RUN_MS)

    @property
    def ended_ms(self) -> int:
        """When it ended, 0 for not yet."""
        return max(self.completed_ms, self.cancelled_ms, self.failed_ms)


_FIELDS: Final = {field.encode_name for field in msgspec.structs.fields(Record)}


def record_of(model: str, lane: str, batch_id: str, flat: Sequence[bytes]) -> Record | None:
    """Read a record as HGETALL returns it; None where there is none, or none that this version can read."""
    found: dict[str, Any] = {}
    for at in range(0, len(flat), 2):
        name = flat[at].decode("utf-8", "replace")
        if name in _FIELDS:  # a later version may write more
            found[name] = flat[at + 1].decode("utf-8", "replace")
    try:
        return msgspec.convert({**found, "id": batch_id, "model": model, "lane": lane}, Record, strict=False)
    except msgspec.ValidationError:
        return None


def info_of(record: Record, now_ms: float) -> BatchInfo:
    """Return what its owner sees of a record.

    Args:
        now_ms: Redis's time.
    """
    waiting = 0 if record.has_ended else max(0, record.total - record.done - record.in_flight)
    in_flight = 0 if record.has_ended else record.in_flight
    left = record.total - record.done
    is_moving = record.state is State.RUNNING and record.rate > 0
    return BatchInfo(
        id=record.id,
        model=record.model,
        lane=record.lane,
        state=record.state,
        counts=Counts(record.total, record.done, record.failed, in_flight, waiting),
        percent=round(100 * record.done / record.total, 2) if record.total else 0.0,
        rate_per_s=round(record.rate, 2) if is_moving else 0.0,
        reason=record.reason or UNSET,
        created_at=record.receiving_ms / 1000,
        started_at=record.running_ms / 1000 if record.running_ms else UNSET,
        ends_at=round((now_ms + 1000 * left / record.rate) / 1000, 3) if is_moving else UNSET,
        ended_at=record.ended_ms / 1000 if record.ended_ms else UNSET,
        expires_at=(record.ended_ms + record.keep_ms) / 1000 if record.ended_ms else UNSET,
        deadline=record.ends_by_ms / 1000 if record.window_ms else UNSET,
        urgent=record.urgent == "1" if record.urgent and not record.has_ended else UNSET,
        keep_s=record.keep_ms / 1000,
        results=f"/v1/models/{record.model}/batches/{record.id}/results",
    )


Fields = Mapping[str, str | int]

"""The shapes that clients of bulk batches see. The same classes make the OpenAPI document."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class State(StrEnum):
    """How a batch stands.

    Attributes:
        RECEIVING: its upload is coming in.
        QUEUED: all of it is there, and no front end has begun to drive it.
        RUNNING: a front end puts its items into the lane.
        CANCELLING: nothing more is put into the lane.
        COMPLETED: every item has a result, perhaps an error.
        CANCELLED: it was cancelled; the items that had a result until then have one.
        FAILED: it was given up; its record says why.
    """

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Counts(Struct, frozen=True):
    """Items: in all, with a result, with an error as their result, in the lane, still to come."""

    total: int
    done: int
    failed: int
    in_flight: int
    waiting: int


class BatchInfo(Struct, frozen=True, kw_only=True):
    """How a bulk batch stands. Times are seconds of the Unix epoch.

    ``ends_at`` is an estimate while it runs; ``expires_at`` is when its results are deleted. ``deadline`` is when it is
    given up, where its client has set one; ``urgent`` says of one in a batch lane that it waits for gaps no longer.
    """

    id: str
    model: str
    lane: str
    state: State
    counts: Counts
    percent: float
    rate_per_s: float
    reason: str | UnsetType = UNSET
    created_at: float
    started_at: float | UnsetType = UNSET
    ends_at: float | UnsetType = UNSET
    ended_at: float | UnsetType = UNSET
    expires_at: float | UnsetType = UNSET
    deadline: float | UnsetType = UNSET
    urgent: bool | UnsetType = UNSET
    keep_s: float
    results: str


class BatchList(Struct, frozen=True):
    """The batches of a lane, the latest first."""

    batches: list[BatchInfo]


class ItemError(Struct, frozen=True):
    """Why an item has no answer."""

    code: str
    message: str
    field: str | None


class ResultLine(Struct, frozen=True, kw_only=True):
    """The result of one item: ``response`` is the answer that a request of its own would have got, or ``error`` is
    there. ``id`` is the item's own, ``status`` the HTTP status that it stands for."""

    index: int
    id: str | UnsetType = UNSET
    status: int
    response: Any = UNSET
    error: ItemError | UnsetType = UNSET

"""What the console's endpoints for rights and actions take and answer, as JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from .access import Role

MOST_IDS = 1000
MOST_MATCH = 200


class Session(Struct, frozen=True):
    """What the sender of a request may do.

    Attributes:
        models: their names, sorted.
        keys_required: the server asks for API keys.
        read_only_why: a sentence that says why the role is not ``operate``; empty when it is.
    """

    role: Role
    version: str
    models: list[str]
    keys_required: bool
    read_only_why: str


class DeadAction(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters to requeue or drop: those of ``ids``, or all that match.

    Attributes:
        lane: empty for all lanes, if all that match are chosen.
        match: part of the reason, the request's id, the lane or the content type.
        up_to: id of a letter; newer ones are not touched. Empty: those that are there now.
    """

    model: str
    lane: str = ""
    ids: Annotated[list[str], Meta(min_length=1, max_length=MOST_IDS)] | None = None
    match: Annotated[str, Meta(max_length=MOST_MATCH)] = ""
    all: bool = False
    up_to: str = ""


class JobAction(Struct, frozen=True, forbid_unknown_fields=True):
    """The bulk batch to cancel."""

    model: str
    lane: str
    id: str


class LaneAction(Struct, frozen=True, forbid_unknown_fields=True):
    """The lane to pause, or to open again."""

    model: str
    lane: str
    paused: bool


decode_dead_action = msgspec.json.Decoder(DeadAction)
decode_job_action = msgspec.json.Decoder(JobAction)
decode_lane_action = msgspec.json.Decoder(LaneAction)

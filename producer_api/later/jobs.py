"""Later requests as Redis stores them, read and written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct


class State(StrEnum):
    """How a later request stands.

    Attributes:
        QUEUED: no consumer has claimed it.
        RUNNING: a consumer has it.
        DONE: it has a result.
        FAILED: it ended with an error.
        CANCELLED: a client took it back.
        EXPIRED: its deadline passed before it could run.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self in (State.QUEUED, State.RUNNING)


def state_of(code: str) -> State:
    """Return how a request stands that has ended with this code, as ``later.lua`` tells it."""
    return {"ok": State.DONE, "cancelled": State.CANCELLED, "expired": State.EXPIRED}.get(code, State.FAILED)


class Asked(Struct, frozen=True, array_like=True):
    """What a front end needs to know again of a request when its result is fetched.

    Attributes:
        route: template of the path that it came by, which names the codec.
        media_type: of the answer.
        asked: what the codec put into ``Decoded.asked``, as msgpack.
    """

    route: str
    media_type: str
    asked: msgspec.Raw = msgspec.Raw(b"\xc0")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Asked)


def encode_asked(route: str, media_type: str, asked: Any) -> bytes:
    """Encode what :class:`Asked` holds."""
    return _encoder.encode((route, media_type, asked))


class Job(Struct, frozen=True):
    """The record of one later request.

    Attributes:
        position: its place among the lane's open ones, 1 for the next; 0 once it is claimed or has ended.
        code: outcome with which it ended; empty while it is open.
        entry: id of its entry in the work stream.
        seq: its number among the later requests of its lane.
        asked: None if it cannot be read.
    """

    id: str
    state: State
    position: int
    code: str
    entry: bytes
    seq: int
    asked: Asked | None


def job_from(request_id: str, fields: Sequence[Any]) -> Job | None:
    """Read what ``hr1_job`` answers for one id; None if there is no such record, or it makes no sense."""
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        state = State(found[b"state"].decode()) if found[b"state"] != b"open" else State.QUEUED
        if state is State.QUEUED and b"claimed" in found:
            state = State.RUNNING
        return Job(
            request_id,
            state,
            int(found.get(b"position", 0)),
            found.get(b"code", b"").decode(),
            found[b"entry"],
            int(found[b"seq"]),
            _asked_from(found.get(b"request", b"")),
        )
    except (KeyError, ValueError, AttributeError):
        return None


def _asked_from(text: bytes) -> Asked | None:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

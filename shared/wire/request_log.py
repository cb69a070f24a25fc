"""The request log: what front ends and consumers say of requests that ended, many in one entry of a stream. Pure.

``docs/protocol.md`` describes the bytes. Each process writes its own half of a request's story, with its own clock, and
both are found by the id. A process's times count from whenever it likes: each entry has the time at which it was
sent, and only differences within one entry mean anything. Redis's time is that of the entry's id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from shared.names import is_name

from .trace_context import trace_id

VERSION = 1
BY_FRONT_END, BY_CONSUMER = b"f", b"c"
"""Fields of an entry: who wrote it."""

MOST_ENTRY_BYTES = 1 << 20
"""A longer entry is not written, and not read."""

MOST_FOUND = 64
"""Of one id in one entry: a client may give all of its requests the same one."""

LONGEST_S = 8 * 86_400.0
"""No request lasts longer; what says so is wrong."""

NOTHING_RAN = ""
DEAD = "dead"
"""Instead of why a batch closed: these requests ended without inference; and they are dead letters."""

HIT, JOINED = "hit", "joined"

_Code = Annotated[str, Meta(max_length=64)]
_Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class ItemEnd(Struct, frozen=True, array_like=True):
    """One request that a consumer ended.

    Attributes:
        outcome: its code.
        queue_wait_s, batch_wait_s, decode_s: seconds in the stream, from being read to the start of its batch, and the
            part of that spent decoding. Of one that did not run, the first has all the time since it was added.
        traceparent: the request's own, if it has one.
        attempt: how often it has been delivered.
    """

    outcome: _Code
    queue_wait_s: float
    batch_wait_s: float
    decode_s: float
    traceparent: str | None = None
    request_id: str = ""
    lane: str = ""
    attempt: Annotated[int, Meta(ge=0, lt=1 << 53)] = 1


class BatchEnd(Struct, frozen=True, array_like=True):
    """A batch that a consumer committed, or requests that it refused.

    Attributes:
        number: of the batch, counted by its consumer from 1.
        ended_s: when it was committed, on the consumer's clock.
        reason: why it closed; ``NOTHING_RAN`` or ``DEAD``.
        first_token_s: when a generation had its first token, in seconds after it began; None for none.
        taken_along: these are requests of lanes of kind ``batch`` that a batch of ordinary ones took along; the others
            of it are told of apart, under the same number.
    """

    number: _Count
    ended_s: float
    rows: _Count
    reason: _Code
    run_s: float
    postprocess_s: float
    commit_s: float
    first_token_s: float | None
    items: list[ItemEnd]
    taken_along: bool = False


class RequestEnd(Struct, frozen=True, array_like=True):
    """One request that a front end ended; times are on its clock, in seconds.

    Attributes:
        submitted_s: when it was given to the queue; None if it was refused before.
        replied_s: when its reply came; None if none did.
        ended_s: when its response was made.
        cache: ``HIT`` or ``JOINED`` if its answer came from the result cache, or was that of an equal request.
    """

    lane: str
    request_id: str
    outcome: _Code
    started_s: float
    submitted_s: float | None
    replied_s: float | None
    ended_s: float
    traceparent: str | None = None
    cache: _Code | None = None


class _Consumers(Struct, frozen=True, array_like=True):
    version: int
    writer: str
    sent_s: float
    ends: list[BatchEnd]


class _FrontEnds(Struct, frozen=True, array_like=True):
    version: int
    writer: str
    sent_s: float
    ends: list[RequestEnd]


class FrontHalf(Struct, frozen=True):
    """What a front end knows of one request: seconds; ``ended_ms`` is on Redis's clock.

    Attributes:
        admission_s: from its head to the queue.
        back_s: from its reply to its response.
        cache: as in :class:`RequestEnd`.
    """

    lane: str
    request_id: str
    outcome: str
    front_end: str
    total_s: float
    ended_ms: float
    admission_s: float | None = None
    back_s: float | None = None
    trace_id: str | None = None
    cache: str | None = None


class ConsumerHalf(Struct, frozen=True):
    """What a consumer knows of one request: seconds; ``ended_ms`` is on Redis's clock.

    Attributes:
        lanes: those of the requests of its batch, or of those that were taken along.
        taken_along: it is of a lane of kind ``batch``, and a batch of ordinary requests took it along.
        commit_s: encoding the replies of its batch included.
    """

    lane: str
    request_id: str
    outcome: str
    worker: str
    attempt: int
    ended_ms: float
    queue_s: float
    batch: int = 0
    rows: int = 0
    reason: str = NOTHING_RAN
    lanes: frozenset[str] = frozenset()
    wait_s: float = 0.0
    decode_s: float = 0.0
    run_s: float = 0.0
    commit_s: float = 0.0
    first_token_s: float | None = None
    trace_id: str | None = None
    taken_along: bool = False

    @property
    def ran(self) -> bool:
        """Say whether it was run."""
        return self.reason not in (NOTHING_RAN, DEAD)

    @property
    def total_s(self) -> float:
        """All of it, from entering the stream on."""
        return self.queue_s + self.wait_s + self.run_s + self.commit_s


Half = FrontHalf | ConsumerHalf

_encoder = msgspec.msgpack.Encoder()
_consumers = msgspec.msgpack.Decoder(_Consumers)
_front_ends = msgspec.msgpack.Decoder(_FrontEnds)


def encode(writer: str, sent_s: float, ends: Sequence[Any]) -> bytes:
    """Encode an entry: of a front end from ``RequestEnd`` or tuples like it, of a consumer from ``BatchEnd``.

    Args:
        writer: name of the worker, or of the front end's instance.
        sent_s: now, on the clock that the ends are on.
    """
    return _encoder.encode((VERSION, writer, sent_s, ends))


def halves(field: bytes, packed: bytes, entry_ms: int, request_id: str) -> list[Half]:
    """Return what one entry says of the latest requests with an id, the newest first; what cannot be read says nothing.

    Args:
        field: ``BY_FRONT_END`` or ``BY_CONSUMER``.
        packed: what the entry has there.
        entry_ms: when it was added, on Redis's clock.
    """
    if len(packed) > MOST_ENTRY_BYTES or request_id.encode() not in packed:
        return []
    try:
        if field == BY_CONSUMER:
            return [*islice(_of_consumer(_consumers.decode(packed), entry_ms, request_id), MOST_FOUND)]
        if field == BY_FRONT_END:
            return [*islice(_of_front_end(_front_ends.decode(packed), entry_ms, request_id), MOST_FOUND)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return []


def _of_consumer(entry: _Consumers, entry_ms: int, request_id: str) -> Iterator[ConsumerHalf]:
    if entry.version != VERSION or not is_name(entry.writer):
        return
    for end in reversed(entry.ends):
        age_s = entry.sent_s - end.ended_s
        first_s = end.first_token_s
        if not _are_durations(age_s, end.run_s, end.postprocess_s, end.commit_s, first_s or 0.0):
            continue
        lanes: frozenset[str] | None = None
        for item in reversed(end.items):
            if item.request_id != request_id or not is_name(item.lane):
                continue
            if not _are_durations(item.queue_wait_s, item.batch_wait_s, item.decode_s):
                continue
            if lanes is None:
                lanes = frozenset(one.lane for one in end.items)
            yield ConsumerHalf(
                lane=item.lane,
                request_id=request_id,
                outcome=item.outcome,
                worker=entry.writer,
                attempt=item.attempt,
                ended_ms=entry_ms - age_s * 1000,
                queue_s=item.queue_wait_s,
                batch=end.number,
                rows=end.rows,
                reason=end.reason,
                lanes=lanes,
                wait_s=item.batch_wait_s,
                decode_s=min(item.decode_s, item.batch_wait_s),
                run_s=end.run_s,
                commit_s=end.postprocess_s + end.commit_s,
                first_token_s=first_s,
                taken_along=end.taken_along,
                trace_id=trace_id(item.traceparent),
            )


def _of_front_end(entry: _FrontEnds, entry_ms: int, request_id: str) -> Iterator[FrontHalf]:
    if entry.version != VERSION or not is_name(entry.writer):
        return
    for end in reversed(entry.ends):
        if end.request_id != request_id or not is_name(end.lane):
            continue
        age_s, total_s = entry.sent_s - end.ended_s, end.ended_s - end.started_s
        admission_s = None if end.submitted_s is None else end.submitted_s - end.started_s
        back_s = None if end.replied_s is None else end.ended_s - end.replied_s
        if _are_durations(age_s, total_s, admission_s or 0.0, back_s or 0.0):
            yield FrontHalf(
                lane=end.lane,
                request_id=request_id,
                outcome=end.outcome,
                front_end=entry.writer,
                total_s=total_s,
                ended_ms=entry_ms - age_s * 1000,
                admission_s=admission_s,
                back_s=back_s,
                trace_id=trace_id(end.traceparent),
                cache=end.cache,
            )


def _are_durations(*seconds: float) -> bool:
    return all(math.isfinite(one) and 0.0 <= one <= LONGEST_S for one in seconds)

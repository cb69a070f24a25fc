"""From what front end and consumer noted of a request to its story: which state, and where its time went. Pure.

Each process measures durations with its own clock, and only durations are added up. Times of two machines' clocks are
never subtracted from each other, but for the time in the stream: from Redis's time at which the request was added to
the consumer's estimate of Redis's time at which it read it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType

from shared.wire.bodies import BODY_GONE
from shared.wire.messages import Reply
from shared.wire.outcomes import ACCEPTED, CANCELLED, CLIENT_CLOSED, OK, UNKNOWN_OUTCOME
from shared.wire.request_log import DEAD, HIT, ConsumerHalf, FrontHalf, Half
from shared.wire.request_log import JOINED as SHARED

SLACK_MS = 1000.0
"""So far apart two processes may say that the same moment was, since both take Redis's time from when Redis had it."""

MOST_CUT_S = 0.05
"""No time in the queue is wrong by more, as long as nobody sets a clock."""

DISAGREE_MS = 1.0
"""Less than this is what the clocks are read in: Redis's ids are whole milliseconds."""

REFUSED = "The front end refused it before it reached the queue."
NO_CONSUMER = (
    "No consumer has logged it: its answer was there already, or it waited for another request of the same id that "
    "began earlier."
)
CACHED = {
    HIT: "Its answer came from the result cache; no consumer had a part in it.",
    SHARED: "It got the answer of an equal request that was under way: the model has a result cache.",
}
NO_END = "No consumer has logged its end."
NO_FRONT_END = (
    "Only the consumer's half is known: it came from a direct producer or as an item of a bulk batch, or the front end "
    "that took it has not logged it."
)
LATER = "It is answered later: the total ends when its result was stored."
JOINED = "The front end waited for less time than all this took: it joined a request of the same id that ran already."
TAKEN_OVER = "An earlier attempt did not end; the time that it took is part of the time in the queue."
GONE = "Its client went away before the answer came."
TIMED_OUT = "The front end stopped waiting for it; the total ends when its consumer was done."
CLOCKS = "The clocks disagree by {ms:.1f} ms more than the spans can show."
STORED = "The request log has nothing of it; this is what its stored answer says."


_NOT_WAITED_FOR = (ACCEPTED.code, CLIENT_CLOSED.code, UNKNOWN_OUTCOME.code)
"""How a request ends in the front end that goes on in the queue: its consumer may end it later."""


class Span(Struct, frozen=True):
    """A part of the time: ``admission``, ``queue``, ``company``, ``decode``, ``run``, ``commit`` or ``way_back``."""

    name: str
    ms: float


class BatchOf(Struct, frozen=True):
    """The batch that a request ran in; ``of_batch_lane``: all of it was of lanes of kind ``batch``."""

    id: str
    rows: int
    reason: str
    of_batch_lane: bool


class Story(Struct, frozen=True, kw_only=True):
    """What is known of one request; what is not known is left out.

    Attributes:
        state: ``queued``, ``running``, ``answered``, ``failed``, ``dead``, ``cancelled`` or ``unknown``.
        outcome: the code; missing while it has none.
        at_ms: when it came, on Redis's clock.
        total_ms: what the front end measured; where none did, all spans together.
        first_token_ms: of a generation, from its start to its first token.
        notes: sentences on what the rest does not show.
    """

    model: str
    lane: str
    id: str
    state: str
    outcome: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    worker: str | UnsetType = UNSET
    batch: BatchOf | UnsetType = UNSET
    at_ms: int | UnsetType = UNSET
    spans: Sequence[Span] = ()
    total_ms: float | UnsetType = UNSET
    first_token_ms: float | UnsetType = UNSET
    front_end: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET
    notes: Sequence[str] = ()


class Explained(Struct, frozen=True):
    """What is known of one id, the newest request first; ``incomplete``: a sentence, where not all was looked at."""

    found: Sequence[Story]
    incomplete: str | UnsetType = UNSET


def stories(model: str, halves: Iterable[Half], batch_lanes: Collection[str]) -> list[Story]:
    """Return the stories of requests of one id, the newest first.

    Args:
        halves: what is known of them, of any lanes.
        batch_lanes: lanes of kind ``batch``.
    """
    found = sorted(halves, key=lambda one: -one.ended_ms)
    if len(found) > 1:  # what was refused for want of its body came again with it, and is no story of its own
        found = [one for one in found if one.outcome != BODY_GONE.code]
    fronts = [one for one in found if isinstance(one, FrontHalf)]
    made: list[tuple[float, Story]] = []
    for one in found:
        if isinstance(one, ConsumerHalf):
            front = _front_of(one, fronts)
            if front is not None:
                fronts.remove(front)
            made.append((one.ended_ms, _story(model, front, one, batch_lanes)))
    made += [(front.ended_ms, _story(model, front, None, batch_lanes)) for front in fronts]
    return [story for _, story in sorted(made, key=lambda pair: -pair[0])]


def _front_of(one: ConsumerHalf, fronts: Sequence[FrontHalf]) -> FrontHalf | None:
    """Return the request to a front end that a consumer's half belongs to: the first of those that waited then."""

    def fits(front: FrontHalf) -> bool:
        if front.lane != one.lane or front.admission_s is None:
            return False
        begun_ms = front.ended_ms - front.total_s * 1000
        if front.outcome in _NOT_WAITED_FOR:
            return begun_ms <= one.ended_ms + SLACK_MS
        return begun_ms <= one.ended_ms + SLACK_MS and one.ended_ms <= front.ended_ms + SLACK_MS

    fitting = [front for front in fronts if fits(front)]
    return min(fitting, key=lambda front: front.ended_ms - front.total_s * 1000, default=None)


def _story(model: str, front: FrontHalf | None, one: ConsumerHalf | None, batch_lanes: Collection[str]) -> Story:
    known = one if front is None else front
    assert known is not None
    spans, note = _spans(front, one)
    summed_ms = round(sum(span.ms for span in spans), 3)
    is_later = front is not None and front.outcome == ACCEPTED.code
    is_open = front is not None and front.outcome in _NOT_WAITED_FOR and one is not None
    total_ms = summed_ms if front is None or is_later or is_open else round(front.total_s * 1000, 3)
    begun_ms = known.ended_ms - (front.total_s * 1000 if front is not None else total_ms)
    outcome = one.outcome if one is not None and (front is None or is_later or front.outcome == OK.code) else ""
    outcome = outcome or ("" if is_later or front is None else front.outcome)
    ran = one is not None and one.ran
    return Story(
        model=model,
        lane=known.lane,
        id=known.request_id,
        state=_state(front, one),
        outcome=outcome or UNSET,
        attempt=UNSET if one is None else one.attempt,
        worker=UNSET if one is None else one.worker,
        batch=_batch(one, batch_lanes) if one is not None and ran else UNSET,
        at_ms=round(begun_ms),
        spans=spans,
        total_ms=total_ms if spans or front is not None else UNSET,
        first_token_ms=UNSET if one is None or one.first_token_s is None else round(one.first_token_s * 1000, 3),
        front_end=UNSET if front is None else front.front_end,
        trace_id=known.trace_id or (one.trace_id if one is not None else None) or UNSET,
        notes=[sentence for sentence in (_what_lacks(front, one), _attempts(one), note) if sentence],
    )


def _batch(one: ConsumerHalf, batch_lanes: Collection[str]) -> BatchOf:
    of_batch_lane = bool(one.lanes) and not one.taken_along and one.lanes <= frozenset(batch_lanes)
    return BatchOf(f"{one.worker}-{one.batch}", one.rows, one.reason, of_batch_lane)


def _state(front: FrontHalf | None, one: ConsumerHalf | None) -> str:
    if one is not None and one.reason == DEAD:
        return "dead"
    code = one.outcome if one is not None else ("" if front is None else front.outcome)
    if code == OK.code:
        return "answered"
    if code in (CANCELLED.code, CLIENT_CLOSED.code):
        return "cancelled"
    if code == ACCEPTED.code:
        return "queued"
    return "unknown" if one is None and code == UNKNOWN_OUTCOME.code else "failed"


def _what_lacks(front: FrontHalf | None, one: ConsumerHalf | None) -> str:
    if front is None:
        return NO_FRONT_END
    if front.outcome == ACCEPTED.code:
        return LATER if one is not None else NO_END
    if front.outcome == CLIENT_CLOSED.code:
        return GONE
    if one is not None:
        return TIMED_OUT if front.outcome == UNKNOWN_OUTCOME.code else ""
    if front.admission_s is None:
        return REFUSED
    if front.cache in CACHED:
        return CACHED[front.cache]
    return NO_CONSUMER if front.back_s is not None or front.outcome == OK.code else NO_END


def _attempts(one: ConsumerHalf | None) -> str:
    return TAKEN_OVER if one is not None and one.attempt > 1 else ""


def _spans(front: FrontHalf | None, one: ConsumerHalf | None) -> tuple[list[Span], str]:
    """Return the spans, which add up to the front end's total where that is known, and a note on them."""
    parts = (
        [] if one is None else consumer_parts(one.queue_s, one.wait_s, one.decode_s, one.run_s, one.commit_s, one.ran)
    )
    if front is None or front.admission_s is None:
        return _as_spans(parts), ""
    parts = [("admission", front.admission_s), *parts]
    if one is None or front.outcome in _NOT_WAITED_FOR:
        return _as_spans(parts), ""
    return whole(parts, front.back_s or 0.0, front.total_s)


Parts = list[tuple[str, float]]


def consumer_parts(
    queue_s: float, wait_s: float, decode_s: float, run_s: float, commit_s: float | None, ran: bool = True
) -> Parts:
    """Return the parts that a consumer knows of, by name, in seconds.

    Args:
        wait_s: from being read to the start of its batch, decoding included.
        commit_s: None where that is not known.
        ran: it has run; else the time in the queue is all there is.
    """
    parts: Parts = [("queue", queue_s)]
    if ran:
        decode_s = min(decode_s, wait_s)
        parts.append(("company", wait_s - decode_s))
        if decode_s:
            parts.append(("decode", decode_s))
        parts.append(("run", run_s))
    if commit_s is not None and (ran or commit_s):
        parts.append(("commit", commit_s))
    return parts


def whole(parts: Parts, back_s: float, total_s: float) -> tuple[list[Span], str]:
    """Return spans that add up to ``total_s``, and a sentence if they cannot.

    What nobody has measured is on the way: from the front end to the queue, and back. Where the parts are longer than
    the total, two of them are counted twice: the front end sees an answer before its consumer sees that the commit is
    done, and the time in the queue is in Redis's whole milliseconds. So these are cut, in this order.

    Args:
        parts: of admission and of the consumer.
        back_s: from the reply to the response, as the front end measured it.
    """
    rest_s = total_s - back_s - sum(seconds for _, seconds in parts)
    if rest_s >= 0.0:
        return _as_spans([*parts, ("way_back", back_s + rest_s)]), ""
    left = dict(parts)
    over_s = -rest_s
    for name, most_s in (("commit", math.inf), ("queue", MOST_CUT_S)):
        cut_s = min(left.get(name, 0.0), over_s, most_s)
        if cut_s:
            left[name] -= cut_s
            over_s -= cut_s
    if over_s > MOST_CUT_S:
        return _as_spans(parts), JOINED
    spans = _as_spans([*left.items(), ("way_back", back_s)])
    return spans, CLOCKS.format(ms=over_s * 1000) if over_s * 1000 > DISAGREE_MS else ""


def _as_spans(parts: Parts) -> list[Span]:
    return [Span(name, round(seconds * 1000, 3)) for name, seconds in parts]


def from_reply(model: str, lane: str, reply: Reply) -> Story:
    """Return what a stored answer says of its request, of which the log has nothing."""
    timing = reply.timing
    ran = bool(timing.batch)
    micro = (timing.queue, timing.wait, timing.decode, timing.run)
    queue_s, wait_s, decode_s, run_s = (one / 1e6 for one in micro)
    spans = _as_spans(consumer_parts(queue_s, wait_s, decode_s, run_s, None)) if ran else []
    return Story(
        model=model,
        lane=lane,
        id=reply.id,
        state="answered" if reply.fault is None else "failed",
        outcome=OK.code if reply.fault is None else reply.fault.code,
        attempt=reply.attempt,
        spans=spans,
        notes=[STORED],
    )

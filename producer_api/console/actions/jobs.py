"""Bulk batches of all lanes of a model, as the console shows and cancels them [I/O]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from producer_api.bulk.record import Record, info_of, record_of
from producer_api.bulk.registry import unknown
from producer_api.console.redis_access import ConsoleRedis
from producer_api.parsing.bulk_schemas import State
from shared import keys
from shared.names import is_name
from shared.redis import functions
from shared.wire.outcomes import BATCH_ENDED, RequestError

MOST_SHOWN: Final = 200
MOST_ACTIVE: Final = 100
_RECENT_OF_LANE: Final = 50
_SOON_MS: Final = 600_000
"""A batch that runs is looked after again within so long; one that has ended when its time is over."""


class Job(Struct, frozen=True):
    """A bulk batch. Times are seconds of the Unix epoch, None where there is none.

    Attributes:
        percent: of its items that have a result.
        ends_at: estimated, while it runs.
        deadline: when it has to be done.
        reason: why it failed, or what it waits for; empty for nothing.
    """

    id: str
    model: str
    lane: str
    state: State
    total: int
    done: int
    failed: int
    percent: float
    rate_per_s: float
    ends_at: float | None
    deadline: float | None
    reason: str


class Jobs(Struct, frozen=True):
    """The batches of a model: those that have not ended, and the latest of each lane; the latest first."""

    jobs: list[Job]


async def jobs_of(redis: ConsoleRedis, model: str, lanes: Sequence[str]) -> Jobs:
    """Return the batches of a model.

    Raises:
        RequestError: Redis does not answer.
    """
    (clock,) = await redis.look(("TIME",))
    now_ms = int(clock[0]) * 1000 + int(clock[1]) / 1000
    soon, *recent = await redis.look(
        ("ZRANGEBYSCORE", keys.bulk(model), "-inf", int(now_ms) + _SOON_MS, "LIMIT", 0, MOST_ACTIVE),
        *(("ZREVRANGE", keys.bulk_list(model, lane), 0, _RECENT_OF_LANE - 1, "WITHSCORES") for lane in lanes),
    )
    places = [tuple(member.decode("utf-8", "replace").split(":", 1)) for member in soon]
    latest: list[tuple[float, str, str]] = []
    for lane, flat in zip(lanes, recent, strict=True):
        latest += [(float(flat[at + 1]), lane, flat[at].decode("utf-8", "replace")) for at in range(0, len(flat), 2)]
    latest.sort(reverse=True)
    places += [(lane, batch) for _, lane, batch in latest]
    wanted = [place for place in dict.fromkeys(places) if len(place) == 2 and all(map(is_name, place))][:MOST_SHOWN]
    found = await redis.look(*(("HGETALL", keys.bulk_record(model, *place)) for place in wanted))
    records = (record_of(model, *place, flat) for place, flat in zip(wanted, found, strict=True) if flat)
    shown = sorted((one for one in records if one is not None), key=lambda one: one.receiving_ms, reverse=True)
    return Jobs([job_of(record, now_ms) for record in shown])


def job_of(record: Record, now_ms: float) -> Job:
    """Return what the console shows of a record.

    Args:
        now_ms: Redis's time.
    """
    info = info_of(record, now_ms)
    return Job(
        id=record.id,
        model=record.model,
        lane=record.lane,
        state=record.state,
        total=record.total,
        done=record.done,
        failed=record.failed,
        percent=info.percent,
        rate_per_s=info.rate_per_s,
        ends_at=info.ends_at if isinstance(info.ends_at, float) else None,
        deadline=info.deadline if isinstance(info.deadline, float) else None,
        reason=record.reason,
    )


async def cancel(redis: ConsoleRedis, model: str, lane: str, batch_id: str) -> State:
    """Have a batch run nothing more; returns how it stood.

    Raises:
        RequestError: ``UNKNOWN_BATCH``, ``BATCH_ENDED``; Redis does not answer.
    """
    (status,) = await redis.act(functions.bulk_cancel(keys.work(model, lane), batch_id))
    stood = status.decode("utf-8", "replace")
    if stood not in State._value2member_map_:
        raise unknown()
    if stood not in (State.QUEUED, State.RUNNING, State.CANCELLING):
        raise RequestError(BATCH_ENDED, f"The batch is {stood}; there is nothing to cancel.")
    return State(stood)

"""Looking at what belongs to no front end [I/O]: how much is in the lanes, and what workers report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from producer_api.console.feed.looking import MOST_MESSAGE_BYTES, MOST_WORKERS
from producer_api.console.feed.seen import WorkerSeen, scored_names, texts
from producer_api.console.feed.state import mean
from producer_api.queue.interface import ModelState
from shared import keys
from shared.redis.client import Link
from shared.state.desired_state import BATCH, BUSY

from .rows import Gauges, LaneGauge

_FIELDS: Final = (BUSY, BATCH)


async def gauge(
    link: Link, models: Sequence[ModelState], now_ms: int, alive_ms: int, also: Sequence[Sequence[Any]] = ()
) -> dict[str, Gauges]:
    """Look at some models in two round trips.

    Args:
        now_ms: Redis's clock.
        alive_ms: a worker whose last heartbeat is older than this counts as gone.
        also: commands that are to be sent on this occasion; what they answer is not looked at.

    Raises:
        shared.redis.RedisError: Redis does not answer.
    """
    commands: list[Sequence[Any]] = []
    for state in models:
        commands.append(("ZRANGE", keys.workers(state.name), 0, MOST_WORKERS - 1, "REV", "WITHSCORES"))
        commands += (("XINFO", "STREAM", keys.work(state.name, lane)) for lane in _small(state))
        commands += (("XLEN", keys.work(state.name, lane)) for lane in state.lanes)
    answers = iter((await link.call_many([*also, *commands]))[len(also) :])
    live: dict[str, list[str]] = {}
    lanes: dict[str, dict[str, LaneGauge]] = {}
    for state in models:
        found = scored_names(next(answers))
        live[state.name] = [name for name, seen in found if abs(now_ms - seen) <= alive_ms]
        infos = {lane: next(answers) for lane in _small(state)}
        lengths = {lane: next(answers) for lane in state.lanes}
        lanes[state.name] = {
            lane: LaneGauge(length, _done(infos.get(lane), length))
            for lane, length in lengths.items()
            if isinstance(length, int)
        }
    asked = [("HMGET", keys.worker(model, worker), *_FIELDS) for model, names in live.items() for worker in names]
    said = iter(await link.call_many(asked) if asked else ())
    gauges = {}
    for model, names in live.items():
        workers = [WorkerSeen(name, now_ms, texts(_FIELDS, next(said))) for name in names]
        busy, batch = (mean([worker.number(one) for worker in workers]) for one in _FIELDS)
        rounded = None if busy is None else round(busy, 3), None if batch is None else round(batch, 1)
        gauges[model] = Gauges(len(workers), *rounded, lanes[model])
    return gauges


def _small(state: ModelState) -> Iterator[str]:
    """Return the lanes whose first and last message may come with the answer, since they are not large."""
    for lane in state.lanes:
        length, taken = state.lengths.get(lane, 0), state.bytes.get(lane)
        if not length or (taken is not None and taken.queued <= length * MOST_MESSAGE_BYTES):
            yield lane


def _done(info: Any, length: int) -> int | None:
    """Return how many requests have ever ended in a lane, from what XINFO STREAM answered."""
    if not isinstance(info, list):
        return None
    fields = dict(zip(info[::2], info[1::2], strict=False))
    added, now = fields.get(b"entries-added"), fields.get(b"length")
    return max(0, added - now) if isinstance(added, int) and isinstance(now, int) else None

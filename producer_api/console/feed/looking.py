"""Asking Redis how models, workers and lanes stand [I/O]: two round trips, whatever there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

from producer_api.queue.interface import Catalogue, ModelState
from shared import keys
from shared.redis.client import Link, ServerError
from shared.state import lanes
from shared.state.desired_state import BATCH, BUSY, LATE, WorkerState

from .seen import (
    LaneSeen,
    LaneSettingsSeen,
    ModelSeen,
    Seen,
    WorkerSeen,
    entry_ms,
    memory_of,
    milliseconds,
    scored_names,
    texts,
)

MOST_WORKERS: Final = 1000
"""Of one model."""

MOST_MESSAGE_BYTES: Final = 256 * 1024
"""Where the messages of a lane are larger on average, none is read for the sake of its id."""

_BRIEF: Final = (BUSY, BATCH, LATE)
_WHOLE: Final = WorkerState.__struct_fields__


class Looker:
    """Looks at everything that listeners are shown.

    Args:
        link: the connection to ask on, one call at a time.
        alive_ms: a worker whose last heartbeat is older than this counts as gone.
    """

    def __init__(self, link: Link, alive_ms: int) -> None:
        self._link, self._alive_ms = link, alive_ms
        self._settings: dict[str, LaneSettingsSeen] = {}
        self._dead: dict[str, int | None] = {}

    async def look(self, catalogue: Catalogue, chosen: Set[str], *, thoroughly: bool) -> Seen:
        """Look once.

        Args:
            chosen: models that are shown in detail.
            thoroughly: also at lanes and dead letters of the others, of which else what was seen last is told.

        Raises:
            shared.redis.RedisError: Redis does not answer.
        """
        models = {name: state for name, state in catalogue.models.items() if is_plain(state)}
        close = [name for name in models if thoroughly or name in chosen or name not in self._settings]
        commands: list[Sequence[Any]] = [("TIME",), ("INFO", "memory")]
        for name in models:
            commands.append(("ZRANGE", keys.workers(name), 0, MOST_WORKERS - 1, "REV", "WITHSCORES"))
        for name in close:
            commands.append(("HGETALL", keys.lanes(name)))
            commands += (("XLEN", keys.dead_letters(name, lane)) for lane in models[name].lanes)
        answers = iter(await self._link.call_many(commands))
        clock, info = next(answers), next(answers)
        if isinstance(clock, ServerError):
            raise clock
        at_ms = milliseconds(clock)
        live = {name: self._live(next(answers), at_ms) for name in models}
        dead: dict[str, dict[str, int | None]] = {}
        for name in close:
            self._settings[name] = _settings(next(answers))
            dead[name] = {lane: _whole(next(answers)) for lane in models[name].lanes}
            counts = [count for count in dead[name].values() if count is not None]
            self._dead[name] = sum(counts) if counts else None
        workers, details = await self._details(models, live, chosen & models.keys())
        used, limit, evicts = memory_of(info)
        found = {
            name: ModelSeen(
                workers[name],
                self._settings[name],
                _lanes(details[name], dead[name]) if name in details else {},
                self._dead[name],
            )
            for name in models
        }
        return Seen(at_ms, memory_used=used, memory_limit=limit, evicts=evicts, models=found)

    def _live(self, answer: Any, at_ms: int) -> list[tuple[str, int]]:
        return sorted((name, seen) for name, seen in scored_names(answer) if abs(at_ms - seen) <= self._alive_ms)

    async def _details(
        self, models: Mapping[str, ModelState], live: Mapping[str, Sequence[tuple[str, int]]], chosen: Set[str]
    ) -> tuple[dict[str, list[WorkerSeen]], dict[str, dict[str, tuple[Any, Any]]]]:
        """Ask for what workers say, and for the lanes of chosen models."""
        commands: list[Sequence[Any]] = []
        for name, some in live.items():
            fields = _WHOLE if name in chosen else _BRIEF
            commands += (("HMGET", keys.worker(name, worker), *fields) for worker, _ in some)
        asked = [(name, lane) for name in chosen for lane in models[name].lanes]
        first = [place for place in asked if _reads_first(models[place[0]], place[1])]
        commands += (("XPENDING", keys.work(*place), keys.GROUP) for place in asked)
        commands += (("XRANGE", keys.work(*place), "-", "+", "COUNT", 1) for place in first)
        answers = iter(await self._link.call_many(commands) if commands else ())
        workers = {
            name: [
                WorkerSeen(worker, seen, texts(_WHOLE if name in chosen else _BRIEF, next(answers)))
                for worker, seen in some
            ]
            for name, some in live.items()
        }
        pending = {place: next(answers) for place in asked}
        oldest = {place: next(answers) for place in first}
        details: dict[str, dict[str, tuple[Any, Any]]] = {name: {} for name in chosen}
        for name, lane in asked:
            details[name][lane] = (pending[name, lane], oldest.get((name, lane)))
        return workers, details


def is_plain(state: ModelState) -> bool:
    """Say whether there is anything of a model in Redis: one that is only configured has nothing."""
    return bool(state.lanes)


def _reads_first(state: ModelState, lane: str) -> bool:
    """Say whether the oldest entry of a lane is read whole, since nothing else has its id."""
    length, taken = state.lengths.get(lane, 0), state.bytes.get(lane)
    return bool(length) and taken is not None and taken.queued <= length * MOST_MESSAGE_BYTES


def _settings(answer: Any) -> LaneSettingsSeen:
    if not isinstance(answer, list):
        return LaneSettingsSeen()
    pairs = [*zip(answer[::2], answer[1::2], strict=False)]
    weights = {name: one.weight for name, one in lanes.from_pairs(pairs).items()}
    return LaneSettingsSeen(weights, lanes.paused(pairs), lanes.batch_lanes(pairs))


def _whole(answer: Any) -> int | None:
    return answer if isinstance(answer, int) else None


def _lanes(details: Mapping[str, tuple[Any, Any]], dead: Mapping[str, int | None]) -> dict[str, LaneSeen]:
    found = {}
    for lane, (pending, first) in details.items():
        running = _whole(pending[0]) if isinstance(pending, list) and pending else None
        oldest = entry_ms(pending[1]) if isinstance(pending, list) and len(pending) > 1 else None
        if oldest is None and isinstance(first, list) and first:
            oldest = entry_ms(first[0][0])
        found[lane] = LaneSeen(running, oldest, dead.get(lane))
    return found

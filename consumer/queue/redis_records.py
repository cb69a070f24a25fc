"""The records of generations on Redis: ``hr1_emit`` writes frames, XRANGE reads them, ``hr1_hand_over`` gives up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, Protocol, TypeVar

from shared import keys
from shared.redis import functions
from shared.redis.client import ServerError, SyncLink
from shared.settings import Settings

from .interface import Claim, Emission, Emitted, Record

log = logging.getLogger(__name__)
T = TypeVar("T")

PORTION = 1000
"""Frames that are read in one round trip: one frame has some tens of bytes."""

_WORDS = {b"taken": Emitted.TAKEN, b"gone": Emitted.GONE}


class Caller(Protocol):
    """Calls functions of Redis, which it loads where they are missing; raises ``StreamDown`` and ``StreamGone``."""

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns."""


class RedisRecords:
    """See :class:`consumer.queue.interface.Records`.

    Args:
        link: frames are sent on it.
        loaded: makes calls of functions, and loads these where they are missing.
        client: for what is read and given up, now and then.
    """

    def __init__(
        self, link: SyncLink, model: str, worker: str, settings: Settings, loaded: Caller, client: Any
    ) -> None:
        self._link, self._model, self._worker, self._loaded, self._client = link, model, worker, loaded, client
        self._stream_ms = settings.reply_expiry_ms(settings.max_timeout_ms)
        self._lease_ms = settings.lease_ms

    def emit(self, frames: Sequence[Emission]) -> list[Emitted]:
        """See the interface."""
        by_lane: dict[str, list[Emission]] = {}
        for frame in frames:
            by_lane.setdefault(frame.lane, []).append(frame)
        commands = [
            functions.emit(keys.work(self._model, lane), self._worker, self._stream_ms, some)
            for lane, some in by_lane.items()
        ]
        answers = self._loaded(lambda: self._answers(commands))
        statuses = {lane: _statuses(answer, len(by_lane[lane])) for lane, answer in zip(by_lane, answers, strict=True)}
        return [next(statuses[frame.lane]) for frame in frames]

    def _answers(self, commands: Sequence[functions.Command]) -> list[Any]:
        """Make calls in one round trip, each for a lane; a server without memory refuses them, and not for long."""
        answers = self._link.call_many(commands)
        for answer in answers:
            if isinstance(answer, ServerError) and not str(answer).startswith("OOM"):
                raise answer
        return answers

    def record(self, claim: Claim, request_id: str) -> Record | None:
        """See the interface."""
        lane, entry_id = claim
        place = keys.record(self._model, lane, request_id)
        return self._loaded(lambda: _read(self._client, place, entry_id))

    def hand_over(self, claims: Sequence[Claim]) -> int:
        """See the interface."""
        by_lane: dict[str, list[bytes]] = {}
        for lane, entry_id in claims:
            by_lane.setdefault(lane, []).append(entry_id)
        count = 0
        for lane, entries in by_lane.items():
            command = functions.hand_over(keys.work(self._model, lane), self._worker, self._lease_ms, entries)
            count += self._loaded(lambda command=command: int(self._client.execute_command(*command)))  # type: ignore[misc]
        return count


def _statuses(answer: Any, count: int) -> Iterator[Emitted]:
    """Return what a call says of each of its frames."""
    if isinstance(answer, ServerError):
        return repeat(Emitted.FULL, count)
    return map(_emitted, answer)


def _emitted(status: Any) -> Emitted:
    if isinstance(status, int):
        return Emitted(status)
    known = _WORDS.get(status)
    if known is None:
        log.error("Redis refused a frame: %s", status.decode(errors="replace"))
        return Emitted.REFUSED
    return known


def _read(client: Any, place: str, entry_id: bytes) -> Record | None:
    """Read a whole record; None if it belongs to another entry, or its beginning is gone [I/O]."""
    frames: list[bytes] = []
    began_ms = 0
    after = b"-"
    while True:
        rows: Any = client.xrange(place, after, "+", count=PORTION)
        if not frames:
            if not rows or rows[0][1].get(b"entry") != entry_id:
                return None
            began_ms = int(rows[0][1][b"at"])
        frames += [fields[b"f"] for _, fields in rows]
        if len(rows) < PORTION:
            return Record(frames, began_ms)
        after = b"(" + rows[-1][0]

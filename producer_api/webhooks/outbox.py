"""The webhooks of one lane that are still to be delivered, in Redis [I/O]; see ``shared/redis/lua/webhooks.lua``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from shared import keys
from shared.redis import functions, library
from shared.redis.client import Link, ServerError

from . import schedule
from .hook import Hook
from .payload import Event, read_event

log = logging.getLogger("headrace.webhooks")

LEASE_MS: Final = 10_000
"""For so long nobody else delivers to a host after its front end died; it renews the lease three times as often."""

Lane = tuple[str, str]
"""A model and one of its lanes."""


class Standing(NamedTuple):
    """What waits in a lane: how many requests and batches, and for how long the oldest event has done so in s."""

    pending: int
    oldest_s: float


@dataclass(slots=True)
class Leased:
    """A host whose webhooks this front end delivers; ``token`` proves it, 0 once it is over."""

    lane: Lane
    host: bytes
    token: int


class End(NamedTuple):
    """What became of an attempt: ``done``, ``again`` (after ``delay_ms``) or ``dead``, and why."""

    event: Event
    result: str
    delay_ms: int = 0
    reason: str = ""


class Outbox:
    """Calls the functions on a connection of its own.

    Attributes:
        renew_s: step at least so often while something is being delivered.

    Raises:
        RedisError: of every method: Redis failed or is away.
    """

    def __init__(self, link: Link, lease_ms: int = LEASE_MS) -> None:
        self._link, self._lease_ms, self.renew_s = link, lease_ms, lease_ms / 3000

    async def claim(self, lanes: Sequence[Lane], most: Sequence[int]) -> dict[Lane, tuple[Standing, list[Leased]]]:
        """Lease up to so many hosts of each lane at which something may be due."""
        commands = [
            functions.webhook_claim(keys.work(*lane), self._lease_ms, count)
            for lane, count in zip(lanes, most, strict=True)
        ]
        answers = await library.call_many(self._link, *commands) if commands else []
        found = {}
        for lane, answer in zip(lanes, answers, strict=True):
            now_ms, pending, oldest_ms, token, *hosts = _sound(answer)
            oldest_s = (int(now_ms) - int(oldest_ms)) / 1000 if oldest_ms else 0.0
            found[lane] = Standing(int(pending), oldest_s), [Leased(lane, host, int(token)) for host in hosts]
        return found

    async def step(
        self, leased: Leased, ends: Iterable[End], count: int, busy: Sequence[str] = ()
    ) -> list[tuple[Event, Hook]]:
        """Note ends, and renew the lease; return up to ``count`` events that are due at the host.

        Its token is 0 if the lease is over.

        Args:
            busy: subjects that are being delivered.
        """
        answer = await self._step(leased, ends, count, None, busy)
        texts = answer[3::2]
        return [known for text in texts if (known := _read(text)) is not None]

    async def release(self, leased: Leased, ends: Iterable[End], pause_s: float) -> None:
        """Note ends; return the host, and let it rest for so long."""
        await self._step(leased, ends, 0, round(1000 * pause_s))

    async def has_room(self, lane: Lane) -> bool:
        """Say whether the lane may take another request or batch with a webhook."""
        (answer,) = await library.call_many(self._link, functions.webhook_room(keys.work(*lane)))
        return bool(_sound(answer))

    async def _step(
        self, leased: Leased, ends: Iterable[End], count: int, pause_ms: int | None, busy: Sequence[str] = ()
    ) -> Any:
        command = functions.webhook_step(
            keys.work(*leased.lane),
            leased.host,
            leased.token,
            lease_ms=self._lease_ms,
            longest_ms=round(1000 * schedule.LONGEST_S),
            count=count,
            pause_ms=pause_ms,
            busy=busy,
            ends=((end.event.subject, end.event.id, end.result, end.delay_ms, end.reason) for end in ends),
        )
        (answer,) = await library.call_many(self._link, command)
        leased.token = int(_sound(answer)[1])
        return answer


def _sound(answer: Any) -> Any:
    if isinstance(answer, ServerError):
        raise answer
    return answer


def _read(text: bytes) -> tuple[Event, Hook] | None:
    try:
        return read_event(text)
    except msgspec.MsgspecError as error:
        log.error("A webhook in Redis cannot be read: %s", error)
        return None

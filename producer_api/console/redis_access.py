"""The console's own connections to Redis [I/O]: what it asks never waits before, and never delays, an admission."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from producer_api.queue.admission import refusal
from shared.redis import library
from shared.redis.advice import told
from shared.redis.client import AsyncClient, Link, OutOfMemory, RedisError, ServerError, connect_async
from shared.settings import Settings
from shared.wire.outcomes import FORBIDDEN, OVERLOADED, QUEUE_OUT_OF_MEMORY, QUEUE_UNAVAILABLE, RequestError

log = logging.getLogger("headrace.console")

MOST_WAITING: Final = 16
"""Questions that wait for the connection at a time."""

LONGEST_PAUSE_S: Final = 0.05

_NOT_ALLOWED: Final = re.compile(r"(?i)no permissions|can't run this command|can't access|ACL failure|NOPERM")

NO_RIGHT: Final = (
    "This front end's user in Redis may not do that: `headrace acl write` without `--console` gives it the right "
    "(docs/security.md, Rights in Redis)."
)


class ConsoleRedis:
    """Two connections, opened when they are first needed: one for looking, one for acting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._links: dict[str, tuple[Link, asyncio.Lock]] = {}
        self._waiting = {"look": 0, "act": 0}

    async def look(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands that change nothing, and return their answers in order.

        Raises:
            RequestError: ``QUEUE_UNAVAILABLE``, ``QUEUE_OUT_OF_MEMORY``, ``FORBIDDEN``, ``OVERLOADED``.
        """
        return await self._call("look", commands)

    async def act(self, *commands: Sequence[Any]) -> list[Any]:
        """As :meth:`look`, for commands that change something. After an error they may have been done or not."""
        return await self._call("act", commands)

    async def _call(self, kind: str, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if not commands:
            return []
        if self._waiting[kind] >= MOST_WAITING:
            raise RequestError(OVERLOADED, "The console is asked too much at once; ask again.", retry_after_s=1)
        link, one_at_a_time = self._link(kind)
        self._waiting[kind] += 1
        try:
            async with asyncio.timeout(self._settings.socket_timeout_s), one_at_a_time:
                asked_s = (clock := asyncio.get_running_loop().time)()
                answers = await library.call_many(link, *commands)
                await asyncio.sleep(min(clock() - asked_s, LONGEST_PAUSE_S))  # half of the time is for others
            for answer in answers:
                if isinstance(answer, ServerError):
                    raise answer
        except OutOfMemory:
            raise refusal(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.") from None
        except (RedisError, OSError) as error:  # TimeoutError is an OSError, and says nothing
            if is_not_allowed(str(error)):
                log.warning("%s", told(error))
                raise RequestError(FORBIDDEN, NO_RIGHT) from None
            log.warning("Asking Redis failed: %s", told(error) if str(error) else "no answer in time")
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.") from None
        finally:
            self._waiting[kind] -= 1
        return answers

    def _link(self, kind: str) -> tuple[Link, asyncio.Lock]:
        if self._client is None:
            settings = self._settings
            self._client = connect_async(
                settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
            )
        if kind not in self._links:
            self._links[kind] = Link(self._client), asyncio.Lock()
        return self._links[kind]

    async def close(self) -> None:
        """Close the connections."""
        for link, _ in self._links.values():
            await link.close()
        if self._client is not None:
            await self._client.aclose()


def is_not_allowed(text: str) -> bool:
    """Say whether an error of Redis means that this front end's user has not the right."""
    return _NOT_ALLOWED.search(text) is not None

"""Later requests on Redis [I/O]; see :class:`producer_api.later.interface.LaterRequests`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from producer_api.queue.admission import refusal
from producer_api.queue.interface import ModelState
from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import Link, RedisError, ServerError, connect_async
from shared.settings import Settings
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, WireError
from shared.wire.outcomes import INTERNAL, QUEUE_UNAVAILABLE, RequestError

from .interface import Done, NewJob
from .jobs import Job, job_from
from .submitter import Submitter

log = logging.getLogger(__name__)


class RedisLater:
    """Puts later requests through ``hr1_later``, and finds their records and results.

    Args:
        settings: Redis address, limits and time limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._submitters: dict[tuple[str, str], Submitter] = {}

    async def start(self) -> None:
        """See the interface."""
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._link, self._one_at_a_time = Link(self._client), asyncio.Lock()

    async def close(self) -> None:
        """See the interface."""
        for submitter in self._submitters.values():
            await submitter.close()
        await self._link.close()
        await self._client.aclose()

    def submit(self, state: ModelState, lane: str, job: NewJob, done: Done) -> None:
        """See the interface."""
        submitter, limit = self._submitters.get((state.name, lane)), state.lanes.get(lane)
        if submitter is None:
            submitter = self._submitters[state.name, lane] = Submitter(Link(self._client), state.name, lane, 0)
        submitter.limit = self._settings.lane_limit if limit is None else limit
        submitter.put(job, done)

    async def find(self, model: str, lane: str, request_id: str) -> tuple[Job | None, Reply | None]:
        """See the interface."""
        look = ("LINDEX", keys.reply(model, lane, request_id), 0)
        # In this order: one that was open and has a reply when that is looked for has ended in between.
        fields, message = await self._call(functions.job(keys.work(model, lane), request_id), look)
        job = job_from(request_id, fields[0]) if isinstance(fields[0], list) and fields[0] else None
        try:
            return job, None if message is None else decode_reply(message)
        except WireError as error:
            log.error("A consumer's reply cannot be read: %r", error)
            raise RequestError(INTERNAL, "The reply cannot be read.", request_id=request_id) from None

    async def _call(self, *commands: Any) -> list[Any]:
        """Send commands, the first of which calls a function; loads the functions where they are missing."""
        try:
            async with asyncio.timeout(self._settings.socket_timeout_s), self._one_at_a_time:
                answers = await library.call_many(self._link, *commands)
            for answer in answers:
                if isinstance(answer, ServerError):
                    raise answer
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            log.warning("%s failed: %s", commands[0][1], told(error) if str(error) else "no answer in time")
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.") from None
        return answers

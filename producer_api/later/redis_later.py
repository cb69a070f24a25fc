"""Later requests on Redis [I/O]; see :class:`producer_api.later.interface.LaterRequests`."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from producer_api.background import forever
from producer_api.queue.admission import refusal
from producer_api.queue.interface import Catalogue, ModelState
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
from .listening import Listener
from .submitter import Submitter
from .watcher import Watcher

log = logging.getLogger(__name__)

TIDY_S = 2.0
MOST_OVERDUE = 100

Show = Callable[[str, str, int, int], None]
"""Takes model, lane, how many later requests are open, and the bytes of the kept results."""


class RedisLater:
    """Puts later requests through ``hr1_later``, and finds their records and results.

    Args:
        settings: Redis address, limits and time limits.
        catalogue: the latest snapshot of all models.
        show: takes what a lane's later requests are and take, now and then.
    """

    def __init__(self, settings: Settings, catalogue: Callable[[], Catalogue], show: Show) -> None:
        self._settings, self._catalogue, self._show = settings, catalogue, show
        self._submitters: dict[tuple[str, str], Submitter] = {}
        self._watchers: dict[tuple[str, str], Watcher] = {}
        self._idle: set[tuple[str, str]] = set()
        self._is_closed = False
        # A client that fetches many large results delays only its own lane: of each lane, one waits for the connection.
        self._of_lane: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self, is_stopping: Callable[[], bool]) -> None:
        """See the interface."""
        self._is_stopping = is_stopping
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._link, self._one_at_a_time = Link(self._client), asyncio.Lock()
        self._tidying = asyncio.create_task(
            forever("Tidying later requests", self._tidy_forever, lambda: self._is_closed)
        )

    async def close(self) -> None:
        """See the interface."""
        self._is_closed = True
        self._tidying.cancel()
        await asyncio.gather(self._tidying, return_exceptions=True)
        for submitter in self._submitters.values():
            await submitter.close()
        for watcher in self._watchers.values():
            await watcher.close()
        await self._link.close()
        await self._client.aclose()

    def submit(self, state: ModelState, lane: str, job: NewJob, done: Done) -> None:
        """See the interface."""
        submitter, limit = self._submitters.get((state.name, lane)), state.lanes.get(lane)
        if submitter is None:
            submitter = self._submitters[state.name, lane] = Submitter(Link(self._client), state.name, lane, 0)
        submitter.limit = self._settings.lane_limit if limit is None else limit
        submitter.put(job, done)

    def listen(self, model: str, lane: str, request_id: str) -> Listener:
        """See the interface."""
        watcher = self._watchers.get((model, lane))
        if watcher is None:
            block_ms = self._settings.block_ms
            watcher = self._watchers[model, lane] = Watcher(self._client, model, lane, block_ms, self._is_stopping)
        return watcher.listen(request_id)

    async def _tidy_forever(self) -> None:
        while not self._is_closed:
            await asyncio.sleep(TIDY_S)
            if self._catalogue().redis_ok:
                await self._tidy()
            idle = {place for place, watcher in self._watchers.items() if not len(watcher)}
            for place in idle & self._idle:  # twice in a row
                await self._watchers.pop(place).close()
            self._idle = idle

    async def _tidy(self) -> None:
        """End what is overdue although no consumer lives that would, and see what all lanes keep."""
        places = [(state.name, lane) for state in self._catalogue().models.values() for lane in state.lanes]
        for model, lane in places:
            try:
                ended = MOST_OVERDUE
                while ended == MOST_OVERDUE:
                    ((ended, opened, kept_bytes),) = await self._call(
                        "", functions.overdue(keys.work(model, lane), MOST_OVERDUE)
                    )
                self._show(model, lane, opened, kept_bytes)
            except RequestError:
                return  # it has been logged

    async def find(self, model: str, lane: str, request_id: str) -> tuple[Job | None, Reply | None]:
        """See the interface."""
        look = ("LINDEX", keys.reply(model, lane, request_id), 0)
        # In this order: one that was open and has a reply when that is looked for has ended in between.
        fields, message = await self._call(lane, functions.job(keys.work(model, lane), request_id), look)
        job = job_from(request_id, fields[0]) if isinstance(fields[0], list) and fields[0] else None
        try:
            return job, None if message is None else decode_reply(message)
        except WireError as error:
            log.error("A consumer's reply cannot be read: %r", error)
            raise RequestError(INTERNAL, "The reply cannot be read.", request_id=request_id) from None

    async def _call(self, lane: str, *commands: Any) -> list[Any]:
        """Send commands, the first of which calls a function; loads the functions where they are missing.

        Args:
            lane: whose client asks; empty for none's.
        """
        try:
            async with asyncio.timeout(self._settings.socket_timeout_s), self._of_lane[lane], self._one_at_a_time:
                answers = await library.call_many(self._link, *commands)
            for answer in answers:
                if isinstance(answer, ServerError):
                    raise answer
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            log.warning("%s failed: %s", commands[0][1], told(error) if str(error) else "no answer in time")
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.") from None
        return answers

"""What the clients hear that wait for later requests of one lane [I/O].

One read blocks for the ends of all; one question a second says how far all have moved. Now and then the records are
looked at, since the stream of ends is capped and connections are lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from producer_api.background import forever
from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import AsyncClient, Link, RedisError, ServerError

from .jobs import job_from
from .listening import Listener, Listeners

log = logging.getLogger(__name__)

POLL_S = 1.0
POSITIONS_PER_S = 500
LOOK_S = 15.0
"""Between two looks at all records."""

RETRY_S = 0.25
MOST_PER_READ = 1000
MOST_PER_LOOK = 250


class Watcher:
    """Reads on behalf of one lane's listeners, from the first to the last of them.

    Args:
        block_ms: longest wait of one read.
        is_stopping: says that the front end is to end.
    """

    def __init__(
        self, client: AsyncClient, model: str, lane: str, block_ms: int, is_stopping: Callable[[], bool]
    ) -> None:
        self._reading, self._asking = Link(client), Link(client)
        self._work, self._ends = keys.work(model, lane), keys.job_ends(model, lane)
        self._block_ms, self._is_stopping = block_ms, is_stopping
        self._listeners = Listeners()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._look_now = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def listen(self, request_id: str) -> Listener:
        """Begin to wait for a later request. What ends from now on is heard; how it stands now is to be asked."""
        made = self._listeners.add(request_id)
        if not self._tasks:
            works = {"Reading ends": self._read, "Asking how far a lane has come": self._ask}
            self._tasks = tuple(
                asyncio.create_task(forever(what, work, lambda: self._is_closed)) for what, work in works.items()
            )
        return made

    async def close(self) -> None:
        """Stop; those that listen are told that it is over."""
        self._is_closed = True
        self._listeners.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reading.close()
        await self._asking.close()

    async def _read(self) -> None:
        """Read the stream of ends, from its newest entry on; then look at all records, since some may have ended."""
        cursor: bytes | None = None
        while not self._is_closed:
            try:
                if cursor is None:
                    newest = await self._reading.call("XREVRANGE", self._ends, "+", "-", "COUNT", 1)
                    cursor = newest[0][0] if newest else b"0-0"
                    self._look_now.set()
                block = ("BLOCK", self._block_ms, "STREAMS", self._ends, cursor)
                answer = await self._reading.call("XREAD", "COUNT", MOST_PER_READ, *block)
            except (RedisError, OSError) as error:
                log.debug("Reading ends failed: %s", error)
                self._look_now.set()
                await asyncio.sleep(RETRY_S)
                continue
            for _, entries in answer or ():
                for entry, fields in entries:
                    cursor = entry
                    found = dict(zip(fields[::2], fields[1::2], strict=True))
                    request_id = found.get(b"id", b"").decode(errors="replace")
                    self._listeners.ended(request_id, found.get(b"code", b"").decode(errors="replace"))
                if len(entries) == MOST_PER_READ:
                    await asyncio.sleep(0)

    async def _ask(self) -> None:
        """Ask how far the lane has come, and now and then how all stand."""
        loop = asyncio.get_running_loop()
        look_at_s = 0.0
        while not self._is_closed:
            must_look = self._look_now.is_set() or loop.time() >= look_at_s
            self._look_now.clear()
            if self._is_stopping():
                self._listeners.stop()
            elif len(self._listeners):
                try:
                    if must_look:
                        look_at_s = loop.time() + LOOK_S
                        await self._look()
                    added, opened, claimed, *_ = await self._call(functions.line(self._work))
                    self._listeners.moved(added - opened, claimed)
                except (RedisError, OSError) as error:
                    log.debug("Asking how far a lane has come failed: %s", told(error))
                    look_at_s = 0.0
            await self._pause()

    async def _pause(self) -> None:
        """Wait for the next question; with many listeners longer, since each is sent its new position."""
        left_s = max(POLL_S, len(self._listeners) / POSITIONS_PER_S)
        while left_s > 0 and not self._is_stopping():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, POLL_S)):
                    await self._look_now.wait()
                    return
            left_s -= POLL_S
        if self._is_stopping():
            await asyncio.sleep(RETRY_S)

    async def _look(self) -> None:
        """Look at the records of all that are waited for."""
        wanted = self._listeners.ids()
        for start in range(0, len(wanted), MOST_PER_LOOK):
            some = wanted[start : start + MOST_PER_LOOK]
            answers = await self._call(functions.job(self._work, *some))
            self._listeners.seen(
                {one: job_from(one, found) for one, found in zip(some, answers, strict=True) if isinstance(found, list)}
            )

    async def _call(self, command: functions.Command) -> Any:
        (answer,) = await library.call_many(self._asking, command)
        if isinstance(answer, ServerError):
            raise answer
        return answer

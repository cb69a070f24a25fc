"""One model's lane as a front end sees it [I/O]: admits requests in batches, waits for their replies.

Everything that arrives in one turn of the event loop leaves in one call of ``hr1_admit``; all replies come through one
reader on this process's reply stream. The reply stream is a hint: reply keys are looked at whenever a hint may have
been lost (after a reconnect, and regularly for requests that are overdue).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from shared import functions, keys
from shared.outcomes import (
    LANE_FULL,
    NO_WORKER,
    QUEUE_OUT_OF_MEMORY,
    QUEUE_UNAVAILABLE,
    SHUTTING_DOWN,
    UNKNOWN_OUTCOME,
    Outcome,
)
from shared.redis import AsyncClient, ClientError, Link, OutOfMemory, ServerError
from shared.settings import Settings
from shared.wire import Request, encode_request

from .admission import refusal
from .deadlines import Deadlines

log = logging.getLogger(__name__)

MOST_PER_ADMIT = 256
SWEEP_S = 0.25
OVERDUE_S = 1.0
RETRY_S = 0.25
MOST_PER_SWEEP = 500


class Instruments(Protocol):
    """What a channel measures itself with."""

    @property
    def admit_duration(self) -> Any:
        """Histogram series of seconds per admit call."""

    @property
    def redis_errors(self) -> Any:
        """Counter of failed steps."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits. ``future`` ends with the encoded reply; ``look`` asks the sweep to read the reply key.

    ``entry_id`` is the request's entry in the stream, once known.
    """

    request_id: str
    future: asyncio.Future[bytes]
    since_s: float
    look: bool = False
    entry_id: bytes | None = None

    def fail(self, outcome: Outcome, message: str) -> None:
        """End with an error, unless already ended."""
        if not self.future.done():
            self.future.set_exception(refusal(outcome, message, self.request_id))

    def time_out(self) -> None:
        """End because the time is up."""
        self.fail(
            UNKNOWN_OUTCOME,
            "No reply came in time; whether the request ran is unknown. Ask again with the same id to find out.",
        )


class Channel:
    """See the module. ``start`` before use; one event loop only.

    Args:
        instance: name of this process; its replies go to the reply stream of that name.
    """

    def __init__(
        self, client: AsyncClient, settings: Settings, model: str, instance: str, instruments: Instruments
    ) -> None:
        self._settings, self._instruments = settings, instruments
        self._model, self._lane, self._instance = model, keys.DEFAULT_LANE, instance
        self._work = keys.work(model, self._lane)
        self._stream = keys.reply_stream(model, self._lane, instance)
        self._admitting, self._reading, self._sweeping = Link(client), Link(client), Link(client)
        self._waiters: dict[str, list[Waiter]] = {}
        self._pending: list[tuple[Waiter, bytes, bool]] = []
        self._delivered: list[str] = []
        self._length = 0
        self._cursor = b"0-0"
        self._flushing = False
        self._lost = False
        self._closed = False
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin reading replies."""
        self._deadlines = Deadlines(asyncio.get_running_loop())
        self._tasks = [asyncio.create_task(self._read_forever()), asyncio.create_task(self._sweep_forever())]

    async def close(self) -> None:
        """Stop; whoever still waits is told that the front end shuts down."""
        # Cancelling alone is not enough: the client library's use of wait_for can swallow a cancellation that arrives
        # together with a result (fixed in Python 3.12), and the task would go on for ever.
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._all_waiters():
            waiter.fail(SHUTTING_DOWN, "The front end is shutting down; ask again with the same id.")
        for link in (self._admitting, self._reading, self._sweeping):
            await link.close()

    def _all_waiters(self) -> Iterable[Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    async def submit(self, request: Request, *, id_is_ours: bool) -> bytes:
        """Put a request into the lane and wait for its encoded reply; see :meth:`producer_api.queue.Queue.submit`."""
        loop = asyncio.get_running_loop()
        request_id = request.id
        waiter = Waiter(request_id, loop.create_future(), loop.time())
        self._waiters.setdefault(request_id, []).append(waiter)
        slot = self._deadlines.add(waiter, waiter.since_s + request.ttl_ms / 1000)
        self._pending.append((waiter, encode_request(request, self._instance), id_is_ours))
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._start_flush)
        try:
            reply = await waiter.future
        finally:
            self._deadlines.remove(waiter, slot)
            self._forget(waiter)
        if id_is_ours:
            self._delivered.append(request_id)
        return reply

    def _forget(self, waiter: Waiter) -> None:
        waiters = self._waiters[waiter.request_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.request_id]

    # --- admitting -------------------------------------------------------------------------------------------------

    def _start_flush(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._flush()))

    async def _flush(self) -> None:
        """Admit what is pending; what arrives meanwhile leaves with the next call."""
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch, self._pending = self._pending[:MOST_PER_ADMIT], self._pending[MOST_PER_ADMIT:]
                begun_s = loop.time()
                try:
                    await self._admit(batch)
                except (ClientError, OSError) as error:
                    self._admit_failed(batch, error)
                self._instruments.admit_duration.observe(loop.time() - begun_s)
        finally:
            self._flushing = False

    async def _admit(self, batch: list[tuple[Waiter, bytes, bool]]) -> None:
        small = [item for item in batch if len(item[1]) < functions.LUA_LIMIT_BYTES]
        large = [item for item in batch if len(item[1]) >= functions.LUA_LIMIT_BYTES]
        if large:
            large = await self._not_answered(large)
        # The length is known well enough while it is far from the limit; near it, ask first.
        near_limit = self._length + len(large) > self._settings.lane_limit * 0.9
        if large and near_limit:
            await self._admit_through_function(small, [])
            room = max(0, self._settings.lane_limit - self._length)
            for waiter, _, _ in large[room:]:
                self._set_status(waiter, b"full")
            small, large = [], large[:room]
        await self._admit_through_function(small, large)

    async def _admit_through_function(
        self, small: list[tuple[Waiter, bytes, bool]], large: list[tuple[Waiter, bytes, bool]]
    ) -> None:
        if self._lost:
            self._lost = False
            await self._admitting.close()
        delivered, self._delivered = self._delivered, []
        call: list[Any] = ["FCALL", functions.ADMIT, 1, self._work]
        call += (self._settings.lane_limit, self._instance, self._cursor, len(delivered), len(small), *delivered)
        for waiter, message, id_is_ours in small:
            call += (waiter.request_id, "0" if id_is_ours else "1", message)
        adds = [("XADD", self._work, "NOMKSTREAM", "*", keys.MESSAGE_FIELD, message) for _, message, _ in large]
        try:
            answer, *added = await self._admitting.call_many((call, *adds))
        except BaseException:
            self._delivered += delivered  # deleting twice is harmless, not deleting leaves them until they expire
            raise
        if isinstance(answer, ServerError) and functions.is_missing(answer):
            log.info("The functions are not in Redis; loading them.")
            await self._admitting.call("FUNCTION", "LOAD", "REPLACE", functions.source())
            answer = (await self._admitting.call_many((call,)))[0]
        for (waiter, _, _), status in zip(large, added, strict=True):
            self._set_status(waiter, b"absent" if status is None else status)
        if isinstance(answer, ServerError):
            self._delivered += delivered
            self._admit_failed(small, answer)
            return
        self._length = answer[0] + len(large)
        for (waiter, _, _), status in zip(small, answer[1:], strict=True):
            self._set_status(waiter, status)

    async def _not_answered(self, items: list[tuple[Waiter, bytes, bool]]) -> list[tuple[Waiter, bytes, bool]]:
        """Leave out requests with a client's own id whose reply is already there; the function checks small ones."""
        asked = [item for item in items if not item[2]]
        if not asked:
            return items
        found = await self._admitting.call_many(
            [("EXISTS", keys.reply(self._model, self._lane, waiter.request_id)) for waiter, _, _ in asked]
        )
        answered = {id(item) for item, exists in zip(asked, found, strict=True) if exists == 1}
        for item in items:
            if id(item) in answered:
                self._set_status(item[0], b"answered")
        return [item for item in items if id(item) not in answered]

    def _set_status(self, waiter: Waiter, status: Any) -> None:
        if isinstance(status, OutOfMemory):
            waiter.fail(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.")
        elif isinstance(status, ServerError):
            log.error("Redis refused a request: %s", status)
            waiter.fail(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")
        elif status == b"answered":
            waiter.look = True
            self._look_now.set()
        elif status == b"full":
            waiter.fail(LANE_FULL, f"The lane already holds {self._settings.lane_limit} requests.")
        elif status == b"absent":
            waiter.fail(NO_WORKER, f"No consumer has set up the queue of model {self._model!r}.")
        elif status.startswith(b"error"):
            log.error("Redis refused a request: %s", status.decode(errors="replace"))
            waiter.fail(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")
        else:
            waiter.entry_id = status

    def _admit_failed(self, batch: list[tuple[Waiter, bytes, bool]], error: BaseException) -> None:
        self._instruments.redis_errors.inc()
        log.warning("Admitting %d requests failed: %s", len(batch), error)
        for waiter, _, _ in batch:
            if isinstance(error, OutOfMemory):
                waiter.fail(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.")
            else:
                waiter.fail(
                    QUEUE_UNAVAILABLE,
                    "Redis did not answer; whether the request was admitted is unknown. Ask again with the same id.",
                )

    # --- replies ---------------------------------------------------------------------------------------------------

    async def _read_forever(self) -> None:
        while not self._closed:
            try:
                answer = await self._reading.call(
                    "XREAD", "COUNT", 1000, "BLOCK", self._settings.block_ms, "STREAMS", self._stream, self._cursor
                )
            except (ClientError, OSError) as error:
                self._instruments.redis_errors.inc()
                log.debug("Reading replies failed: %s", error)
                # The server has probably closed the admitting connection, too; noticed here, it costs no request.
                self._lost = True
                for waiter in self._all_waiters():
                    waiter.look = True
                await asyncio.sleep(RETRY_S)
                self._look_now.set()
                continue
            if answer:
                self._take_hints(answer[0][1])

    def _take_hints(self, hints: list[Any]) -> None:
        for entry_id, fields in hints:
            self._cursor = entry_id
            waiters = self._waiters.get(fields[1].decode(errors="replace"))
            if not waiters:
                continue
            if len(fields) >= 6:  # the end of one entry, not of the id: an earlier attempt must not end a later one
                self._answer([waiter for waiter in waiters if waiter.entry_id == fields[5]], fields[3])
            elif len(fields) >= 4:
                self._answer(waiters, fields[3])
            else:
                for waiter in waiters:
                    waiter.look = True
                self._look_now.set()

    def _answer(self, waiters: Iterable[Waiter], reply: bytes) -> None:
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_result(reply)

    async def _sweep_forever(self) -> None:
        """Look at reply keys: at once for those asked for, regularly for those overdue."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._look_now.wait()
            self._look_now.clear()
            # Those overdue may be thousands, and every hint of a large reply comes by here.
            overdue = loop.time() >= next_s
            if overdue:
                next_s = loop.time() + SWEEP_S
            try:
                await self._sweep(overdue)
            except (ClientError, OSError) as error:
                self._instruments.redis_errors.inc()
                log.debug("Looking for replies failed: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _sweep(self, overdue: bool) -> None:
        overdue_s = asyncio.get_running_loop().time() - OVERDUE_S if overdue else -math.inf
        wanted = [
            request_id
            for request_id, waiters in self._waiters.items()
            if any(waiter.look or waiter.since_s <= overdue_s for waiter in waiters)
        ]
        for start in range(0, len(wanted), MOST_PER_SWEEP):
            some = wanted[start : start + MOST_PER_SWEEP]
            for request_id in some:  # looked at once; after that it is looked at again when it is overdue
                for waiter in self._waiters.get(request_id, ()):
                    waiter.look = False
            replies = await self._sweeping.call_many(
                [("LINDEX", keys.reply(self._model, self._lane, request_id), 0) for request_id in some]
            )
            for request_id, reply in zip(some, replies, strict=True):
                if isinstance(reply, bytes):
                    self._answer(self._waiters.get(request_id, ()), reply)

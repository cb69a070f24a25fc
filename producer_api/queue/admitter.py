"""Putting requests into a lane [I/O]: everything that arrives in one turn of the event loop leaves in one call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from producer_api.load.lane_account import LaneAccount
from producer_api.load.wait_estimate import Backlog
from shared import keys, limits
from shared.process.logs import about
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import InPieces, Link, OutOfMemory, RedisError, RedisTimeout, ServerError
from shared.state.lanes import bytes_from
from shared.wire.outcomes import KEY_REUSED, LANE_FULL, NO_WORKER, QUEUE_OUT_OF_MEMORY, QUEUE_UNAVAILABLE

from .pending import PendingReply

log = logging.getLogger(__name__)

MOST_PER_CALL = 256
MOST_BYTES_PER_CALL = 1024 * 1024
"""Large messages whose ids are checked go through the function, a few at a time: in one call, those of all clients
would be more than the server takes, and it would close the connection on everybody's."""
SLOW_S = 0.05
"""After a call that took longer, its clients may no longer wait."""

IDLE_S = 1.0
"""A connection that was idle for so long and is found closed was probably closed before the call, which never came."""

KNOWN_LENGTH_SHARE = 0.9
"""Up to this share of the lane's limit the last known length is good enough; beyond it Redis is asked first."""


class Instruments(Protocol):
    """What a lane measures itself with."""

    @property
    def admit_duration(self) -> Any:
        """Histogram series of seconds per admit call."""

    @property
    def redis_errors(self) -> Any:
        """Counter of failed steps."""


class Submission(Struct, frozen=True):
    """A request to be admitted.

    Attributes:
        message: the encoded request; a large one in pieces.
        check: what ``hr1_admit`` is to find out about the id first; ``functions.NOT_ASKED_BEFORE`` for nothing.
    """

    pending: PendingReply
    message: bytes | InPieces
    check: str

    @property
    def is_large(self) -> bool:
        """Say whether it is too large to go through Lua, which would copy it. Only there can an id be checked."""
        if self.check != functions.NOT_ASKED_BEFORE:
            return False
        return isinstance(self.message, InPieces) or len(self.message) >= limits.LUA_LIMIT_BYTES

    @property
    def size_bytes(self) -> int:
        """Bytes of the encoded request."""
        message = self.message
        return sum(map(len, message)) if isinstance(message, InPieces) else len(message)


class Admitter:
    """Admits the requests of one model's lane.

    Args:
        instance: name of this process, whose reply stream is trimmed in passing.
        backlog: kept up to date with the length of the lane.
        look: called when a reply is there already and its key is to be read.
        front_ends: that share this one's port.

    Attributes:
        limit: most entries the lane may hold.
        account: what the lane takes in bytes; updated by every call that learns it.
        cursor: id up to which the reply stream has been read; kept up to date by its reader.
        connection_is_suspect: another connection was lost, so this one is opened again before it is used.
    """

    def __init__(
        self,
        link: Link,
        model: str,
        lane: str,
        instance: str,
        limit: int,
        backlog: Backlog,
        instruments: Instruments,
        look: Callable[[PendingReply], None],
        front_ends: int = 1,
    ) -> None:
        self._link, self._model, self._lane, self._instance = link, model, lane, instance
        self._work = keys.work(model, lane)
        self.limit, self._backlog, self._instruments, self._look = limit, backlog, instruments, look
        self._unsent: list[Submission] = []
        self._heavy: deque[Submission] = deque()
        self._delivered: list[str] = []
        self._unwanted: list[tuple[str, bytes]] = []
        self._length = 0
        self._task: asyncio.Task[None] | None = None
        self._is_flushing = False
        self.account = LaneAccount(front_ends)
        self.cursor = b"0-0"
        self.connection_is_suspect = False

    def put(self, submission: Submission, *, is_heavy: bool = False) -> None:
        """Admit a request with the next call, or, if it is heavy, with one of the next."""
        (self._heavy if is_heavy else self._unsent).append(submission)
        self._backlog.length += 1
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._start)

    def cancel(self, pending: PendingReply) -> None:
        """Take a request back whose reply nobody will ask for, as soon as its entry is known."""
        pending.unwanted = True
        if pending.entry_id is not None:
            self._unwanted.append((pending.request_id, pending.entry_id))
            self._flush_soon()

    def acknowledge(self, request_id: str) -> None:
        """Note that a reply was delivered and nobody can ask for it again; its key is deleted with the next call."""
        self._delivered.append(request_id)

    @property
    def is_idle(self) -> bool:
        """Nothing is being sent, or waits to be."""
        return not self._is_flushing

    async def close(self) -> None:
        """Stop admitting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._link.close()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        """Send what is waiting; what arrives meanwhile leaves with the next call."""
        loop = asyncio.get_running_loop()
        took_s = 0.0
        try:
            while self._unsent or self._unwanted or self._heavy:
                batch, self._unsent = self._unsent[:MOST_PER_CALL], self._unsent[MOST_PER_CALL:]
                if took_s > SLOW_S:  # the time of some may be up, and some may have given up
                    batch = [one for one in batch if not one.pending.ended]
                    self._heavy = deque(one for one in self._heavy if not one.pending.ended)
                begun_s = loop.time()
                heavy: Sequence[Submission] = ()
                try:
                    if batch or not self._heavy:
                        await self._admit(batch)
                    if self._heavy:
                        heavy = self._some_heavy()
                        await self._call(heavy, [])
                except Exception as error:  # nobody reads what a task ends with, and everybody here would wait
                    log.exception("Admitting %d requests failed.", len(batch) + len(heavy))
                    self._failed([one for one in (*batch, *heavy) if one.pending.entry_id is None], error)
                took_s = loop.time() - begun_s
                self._instruments.admit_duration.observe(took_s)
        finally:
            self._is_flushing = False

    def _some_heavy(self) -> list[Submission]:
        some, size = [self._heavy.popleft()], 0
        while self._heavy and (size := size + len(some[-1].message)) < MOST_BYTES_PER_CALL:
            some.append(self._heavy.popleft())
        return some

    async def _admit(self, batch: Sequence[Submission]) -> None:
        small: list[Submission] = []
        large: list[Submission] = []
        for one in batch:
            (large if one.is_large else small).append(one)
        if large and not self._surely_fit(large):
            await self._call(small, [])
            small, large = [], await self._with_room(large)
        await self._call(small, large)

    def _surely_fit(self, large: Sequence[Submission]) -> bool:
        if self._length + len(large) > self.limit * KNOWN_LENGTH_SHARE:
            return False
        return self.account.surely_takes(sum(one.size_bytes for one in large))

    async def _with_room(self, large: Sequence[Submission]) -> list[Submission]:
        """Ask what the lane takes, and refuse those that do not fit any more."""
        await self._ask_account()
        room = max(0, self.limit - self._length)
        fitting: list[Submission] = []
        for one in large:
            if len(fitting) >= room:
                self._fill(one)
            elif not self.account.takes(one.size_bytes):
                self._fill(one, by_bytes=True)
            else:
                self.account.sent(one.size_bytes)
                fitting.append(one)
        self.account.sent(-sum(one.size_bytes for one in fitting))  # they are counted when they are sent
        return fitting

    async def _ask_account(self) -> None:
        try:
            self.account.seen(bytes_from(await self._link.call(*functions.lane_bytes(self._work))))
        except (RedisError, OSError) as error:  # should the connection be lost, the next call says so
            log.debug("What the lane takes is not known: %s", error)

    async def _call(self, small: Sequence[Submission], large: Sequence[Submission]) -> None:
        """Admit the small ones through the function and add the large ones, in one round trip."""
        delivered, self._delivered = self._delivered, []
        requests = [(one.pending.request_id, one.check, one.message) for one in small]
        call = functions.admit(self._work, self.limit, self._instance, self.cursor, delivered, requests)
        adds: list[Sequence[Any]] = [
            ("XADD", self._work, "NOMKSTREAM", "*", keys.MESSAGE_FIELD, one.message) for one in large
        ]
        if self._unwanted:  # should this fail, they run for nobody
            unwanted, self._unwanted = self._unwanted[:MOST_PER_CALL], self._unwanted[MOST_PER_CALL:]
            adds.append(functions.cancel(self._work, unwanted, tell=False))
        try:
            answer, *added = await self._send(call, adds)
        except (RedisError, OSError) as error:
            self._delivered += delivered  # deleting twice is harmless; not deleting leaves them until they expire
            again = self._safe_to_repeat(small, error)
            self._unsent = [*again, *self._unsent]
            self._failed([one for one in (*small, *large) if one not in again], error)
            if isinstance(error, RedisTimeout):  # those that came meanwhile would wait as long again
                self._refuse_waiting()
            return
        for one, status in zip(large, added[: len(large)], strict=True):
            self.account.sent(one.size_bytes)
            self._set_status(one, b"absent" if status is None else status)
        if isinstance(answer, ServerError):
            self._delivered += delivered
            self._failed(small, answer)
            return
        self._length = answer[0] + len(large)
        self._backlog.told(self._length + len(self._unsent) + len(self._heavy), time.perf_counter())
        if b"full" in answer and self._length < self.limit:
            await self._ask_account()  # the refusal says how much there is
        for one, status in zip(small, answer[1:], strict=True):
            self._set_status(one, status)
            if one.pending.entry_id is not None:
                self.account.sent(one.size_bytes)

    def _safe_to_repeat(self, batch: Sequence[Submission], error: BaseException) -> list[Submission]:
        """Return those that go again on a new connection, once: where the id is looked up, a second call adds nothing.

        Only after an idle connection turned out to be closed. A server that is silent, or closes a connection in use,
        may be in trouble, and its answer is the client's to ask for.
        """
        if self._link.was_idle_s < IDLE_S or isinstance(error, ServerError | RedisTimeout):
            return []
        return [one for one in batch if one.check != functions.NOT_ASKED_BEFORE and not one.pending.ended]

    async def _send(self, call: Sequence[Any], adds: Sequence[Sequence[Any]]) -> list[Any]:
        if self.connection_is_suspect:
            self.connection_is_suspect = False
            await self._link.close()
        return await library.call_many(self._link, call, *adds)

    def _set_status(self, submission: Submission, status: Any) -> None:
        pending = submission.pending
        if type(status) is bytes and status[:1].isdigit():  # the entry's id
            pending.entered(status)
            if pending.unwanted:
                self.cancel(pending)
        elif isinstance(status, OutOfMemory):
            pending.fail(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.")
        elif status == b"answered":
            self._look(pending)
        elif type(status) is bytes and status.startswith(b"joined "):
            pending.join(status.split()[1])
        elif status == b"differs":
            pending.fail(KEY_REUSED, "This Idempotency-Key came with another body before.")
        elif status == b"full":
            self._fill(submission, by_bytes=self._length < self.limit)
        elif status == b"absent":
            pending.fail(NO_WORKER, f"No consumer has set up the queue of model {self._model!r}.")
        else:  # an error, or a status of a later version
            log.error("Redis refused a request: %s", status, extra=about(pending.request_id, pending.traceparent))
            pending.fail(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")

    def _fill(self, submission: Submission, *, by_bytes: bool = False) -> None:
        """Refuse a request for which the lane has no room: it holds too many, or they take too many bytes or tokens."""
        if by_bytes:
            drained_s = self._backlog.retry_after_s(self._length / 2)
            submission.pending.fail(LANE_FULL, *self.account.refusal(submission.size_bytes, drained_s))
        else:
            sentence = f"The lane already holds {self.limit} requests."
            submission.pending.fail(LANE_FULL, sentence, self._backlog.retry_after_s(self.limit / 2))

    def _refuse_waiting(self) -> None:
        waiting, self._unsent = [*self._unsent, *self._heavy], []
        self._heavy.clear()
        for one in waiting:
            one.pending.fail(QUEUE_UNAVAILABLE, "Redis does not answer; the request was not admitted.")

    def _failed(self, batch: Sequence[Submission], error: BaseException) -> None:
        self._instruments.redis_errors.inc()
        if not batch:
            return
        log.warning("Admitting %d requests failed: %s", len(batch), told(error))
        for one in batch:
            if isinstance(error, OutOfMemory):
                one.pending.fail(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.")
            elif isinstance(error, ServerError):  # it may not write now: its disk is full, or it is a replica
                one.pending.fail(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")
            else:
                one.pending.fail(
                    QUEUE_UNAVAILABLE,
                    "Redis did not answer; whether the request was admitted is unknown. Ask again with the same id.",
                )

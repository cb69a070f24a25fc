"""Puts later requests into one lane [I/O]: all that arrive in one turn of the event loop leave in one call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from producer_api.load.lane_account import LaneAccount
from producer_api.queue.admission import refusal
from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import Link, OutOfMemory, RedisError, RedisTimeout, ServerError
from shared.state.lanes import bytes_from
from shared.wire.messages import encode_request
from shared.wire.outcomes import (
    KEY_REUSED,
    LANE_FULL,
    NO_WORKER,
    QUEUE_OUT_OF_MEMORY,
    QUEUE_UNAVAILABLE,
    RESULTS_FULL,
    SHUTTING_DOWN,
    WEBHOOKS_FULL,
    Outcome,
)

from .interface import Done, NewJob, Placed

log = logging.getLogger(__name__)

MOST_PER_CALL = 256
MOST_BYTES_PER_CALL = 1024 * 1024
"""A function copies its arguments, and the server does nothing else meanwhile."""

_FULL_RETRY_S = 10

_REFUSED: dict[bytes, tuple[Outcome, str, int]] = {
    b"differs": (KEY_REUSED, "This id or Idempotency-Key came with another body before.", 0),
    b"taken": (KEY_REUSED, "This id is that of a request that is not fetched later; use another one.", 0),
    b"results_full": (
        RESULTS_FULL,
        "The results that are kept for this lane take all the bytes they may; fetch some, or wait until they expire.",
        _FULL_RETRY_S,
    ),
    b"webhooks_full": (
        WEBHOOKS_FULL,
        "Too many webhooks of this lane wait to be delivered; ask again later, or without Headrace-Webhook.",
        _FULL_RETRY_S,
    ),
    b"absent": (NO_WORKER, "No consumer has set up the queue of this model.", 1),
}


class _Submission(Struct, frozen=True):
    job: NewJob
    message: bytes
    done: Done

    def arguments(self) -> Sequence[Any]:
        """Return the eight arguments of ``hr1_later``."""
        job, request = self.job, self.job.request
        asked = "0" if job.id_is_generated else "1"
        return (
            *(request.id, asked, request.ttl_ms, request.keep_ms, job.fingerprint),
            *(job.asked, job.hook, self.message),
        )

    def refuse(self, outcome: Outcome, message: str, retry_after_s: int = 1) -> None:
        """End it with an error."""
        self.done(refusal(outcome, message, self.job.request.id, retry_after_s))


class Submitter:
    """Puts the later requests of one model's lane.

    Attributes:
        limit: most entries the lane may hold.
    """

    def __init__(self, link: Link, model: str, lane: str, limit: int) -> None:
        self._link, self._work, self.limit = link, keys.work(model, lane), limit
        self._unsent: deque[_Submission] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_flushing = self._is_closed = False

    def put(self, job: NewJob, done: Done) -> None:
        """Put a request with the next call.

        Raises:
            RequestError: ``SHUTTING_DOWN``.
        """
        if self._is_closed:
            raise refusal(SHUTTING_DOWN, "The front end is shutting down.", job.request.id)
        self._unsent.append(_Submission(job, encode_request(job.request, keys.LATER), done))
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._start)

    async def close(self) -> None:
        """Stop; what has not been sent is refused."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._refuse_waiting(SHUTTING_DOWN, "The front end is shutting down; ask again with the same id.")
        await self._link.close()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._unsent:
                some = self._some()
                try:
                    await self._send(some)
                except asyncio.CancelledError:
                    _lost(some)
                    raise
                except Exception as error:  # nobody reads what a task ends with, and everybody here would wait
                    log.exception("Putting %d later requests failed.", len(some))
                    self._failed(some, error)
        finally:
            self._is_flushing = False

    def _some(self) -> list[_Submission]:
        some, size = [self._unsent.popleft()], 0
        while self._unsent and len(some) < MOST_PER_CALL:
            size += len(some[-1].message)
            if size >= MOST_BYTES_PER_CALL:
                break
            some.append(self._unsent.popleft())
        return some

    async def _send(self, some: Sequence[_Submission]) -> None:
        call = functions.later(self._work, self.limit, [one.arguments() for one in some])
        try:
            try:
                (answer,) = await library.call_many(self._link, call)
            except (RedisError, OSError) as error:
                if isinstance(error, ServerError | RedisTimeout):
                    raise
                # Its connection was lost, perhaps before the call. The records tell what has been added.
                again = functions.later(self._work, self.limit, [_asked_again(one) for one in some])
                (answer,) = await library.call_many(self._link, again)
        except (RedisError, OSError) as error:
            self._failed(some, error)
            if isinstance(error, RedisTimeout):  # those that came meanwhile would wait as long again
                self._refuse_waiting(QUEUE_UNAVAILABLE, "Redis does not answer; the request was not admitted.")
            return
        if isinstance(answer, ServerError):
            self._failed(some, answer)
            return
        account = await self._account() if b"full" in answer else LaneAccount()
        for one, status in zip(some, answer[1:], strict=True):
            if status == b"full":
                self._fill(one, answer[0], account)
            else:
                _end(one, status)

    async def _account(self) -> LaneAccount:
        """Ask what the lane takes, to say why it takes no more."""
        account = LaneAccount()
        try:
            account.seen(bytes_from(await self._link.call(*functions.lane_bytes(self._work))))
        except (RedisError, OSError) as error:
            log.debug("What the lane takes is not known: %s", error)
        return account

    def _fill(self, one: _Submission, length: int, account: LaneAccount) -> None:
        if length >= self.limit:
            one.refuse(LANE_FULL, f"The lane already holds {self.limit} requests.", _FULL_RETRY_S)
        else:
            one.refuse(LANE_FULL, *account.refusal(len(one.message), _FULL_RETRY_S))

    def _refuse_waiting(self, outcome: Outcome, message: str) -> None:
        while self._unsent:
            self._unsent.popleft().refuse(outcome, message)

    def _failed(self, some: Sequence[_Submission], error: Exception) -> None:
        log.warning("Putting %d later requests failed: %s", len(some), told(error))
        if isinstance(error, OutOfMemory):
            for one in some:
                one.refuse(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.")
        elif isinstance(error, ServerError):
            for one in some:
                one.refuse(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")
        else:
            _lost(some)


def _asked_again(one: _Submission) -> Sequence[Any]:
    request_id, _, *others = one.arguments()
    return (request_id, "1", *others)


def _lost(some: Sequence[_Submission]) -> None:
    for one in some:
        one.refuse(
            QUEUE_UNAVAILABLE,
            "Redis did not answer; whether the request was admitted is unknown. Ask again with the same id.",
        )


def _end(one: _Submission, status: bytes) -> None:
    if status[:1].isdigit():
        one.done(Placed(int(status.split()[1])))
    elif status == b"known":
        one.done(Placed(0))
    elif status in _REFUSED:
        one.refuse(*_REFUSED[status])
    else:  # an error, or a status of a later version
        log.error("Redis refused a later request: %s", status)
        one.refuse(QUEUE_UNAVAILABLE, "The queue refused the request; the front end's log says why.")

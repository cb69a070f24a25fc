"""Receiving replies [I/O]: those of one lane come through one read of its reply stream.

The reply stream is a hint. Reply keys are looked at whenever a hint may have been lost: after a reconnect, when a hint
carries no reply, and regularly for requests that are overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from producer_api.background import forever
from shared import keys, limits
from shared.redis.client import AsyncClient, Link, RedisError
from shared.wire.fast import is_final
from shared.wire.outcomes import BY_CODE, CANCELLED, EXPIRED, UNKNOWN_OUTCOME, RequestError
from shared.wire.reply_portion import Portion

from .admission import refusal
from .frames import FrameReader
from .pending import PendingReplies, PendingReply

log = logging.getLogger(__name__)

SWEEP_S = 0.25
OVERDUE_S = 1.0
RETRY_S = 0.25
MOST_PER_READ = 1000
MOST_PER_SWEEP = 500
FEWEST_PER_SWEEP = 8
MANY_BYTES = 16 * 1024 * 1024
"""Replies in one answer that are plenty: they are here at once, and each is encoded before the next are asked for."""

WEIGH_S = 1.0


def lookups_after(before: int, size_bytes: int) -> int:
    """Return how many reply keys to look at next, after so many brought so many bytes."""
    if size_bytes > MANY_BYTES:
        return max(1, before // 2)
    return min(MOST_PER_SWEEP, 2 * before) if size_bytes < MANY_BYTES // 4 else before


def _end(told: Mapping[bytes, bytes], request_id: str) -> tuple[bytes, RequestError]:
    """Return which entry ended, and how: ``entry`` without a consumer, ``ended`` with an answer that is not stored."""
    code = told.get(b"code", b"").decode(errors="replace")
    if b"entry" in told:
        outcome, what = (EXPIRED, "waited too long") if code == EXPIRED.code else (CANCELLED, "was cancelled")
        return told[b"entry"], refusal(outcome, f"The request {what}.", request_id)
    outcome = BY_CODE.get(code, UNKNOWN_OUTCOME)
    if outcome.lasting:  # a direct producer may write here: it gives no answer that would be stored
        outcome = UNKNOWN_OUTCOME
    message = f"The request, which had been sent before, ended as {outcome.code}. You may send it again."
    return told.get(b"ended", b""), refusal(outcome, message, request_id)


class ReplyReader:
    """Reads one lane's replies for this process.

    Args:
        block_ms: longest wait of one read.
        on_cursor: called with the id up to which the stream has been read.
        on_error: called when a connection was lost.
    """

    def __init__(
        self,
        client: AsyncClient,
        pending_replies: PendingReplies,
        model: str,
        lane: str,
        instance: str,
        block_ms: int,
        on_cursor: Callable[[bytes], None],
        on_error: Callable[[], None],
    ) -> None:
        self._reading, self._sweeping = Link(client), Link(client)
        self._pending_replies, self._model, self._lane = pending_replies, model, lane
        self._stream, self._ends = keys.reply_stream(model, lane, instance), keys.terminations(model, lane)
        self._block_ms, self._on_cursor, self._on_error = block_ms, on_cursor, on_error
        self._cursor = self._ended_up_to = b"0-0"
        self._portion = Portion()
        self._frames = FrameReader(pending_replies, model, lane)
        self._look_now = asyncio.Event()
        self._at_once, self._weigh_at_s, self._ends_are_too_large = FEWEST_PER_SWEEP, 0.0, False
        self._closed = False
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        """Begin reading."""
        works = {"Reading replies": self._read_forever, "Looking for replies": self._sweep_forever}
        self._tasks = tuple(
            asyncio.create_task(forever(what, work, lambda: self._closed)) for what, work in works.items()
        )

    async def close(self) -> None:
        """Stop reading."""
        # Cancelling alone is not enough: the client library's use of wait_for can swallow a cancellation that arrives
        # together with a result (fixed in Python 3.12), and the task would go on for ever.
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reading.close()
        await self._sweeping.close()

    def connect_anew(self) -> None:
        """Reopen the connections before their next use."""
        self._reading.renew()
        self._sweeping.renew()

    def look(self, pending: PendingReply) -> None:
        """Read the reply key of this request now."""
        pending.look = True
        self._look_now.set()

    async def _read_forever(self) -> None:
        read = ("XREAD", "COUNT", MOST_PER_READ, "BLOCK", self._block_ms, "STREAMS")
        mine = self._stream.encode()
        for pending in self._pending_replies.all():  # what failed before may have taken their hints with it
            self.look(pending)
        self._frames.all_are_behind()
        is_weighed = False
        while not self._closed:
            try:
                if not is_weighed:
                    await self._weigh(self._reading)
                    is_weighed = True
                if self._ends_are_too_large:
                    answer = await self._reading.call(*read, self._stream, self._cursor)
                else:
                    both = (self._stream, self._ends, self._cursor, self._ended_up_to)
                    answer = await self._reading.call(*read, *both)
            except (RedisError, OSError) as error:
                log.debug("Reading replies failed: %s", error)
                self._on_error()
                for pending in self._pending_replies.all():
                    pending.look = True
                self._frames.all_are_behind()
                await asyncio.sleep(RETRY_S)
                self._look_now.set()
                continue
            for stream, entries in answer or ():
                if stream == mine:
                    self._take_hints(entries)
                    self._on_cursor(self._cursor)
                else:
                    self._take_ends(entries)

    def _take_hints(self, hints: list[Any]) -> None:
        for entry_id, fields in hints:
            self._cursor = entry_id
            request_id, reply, entry, frames = b"", None, None, None
            for at in range(0, len(fields), 2):  # by name: a later version may write more, and in another order
                if fields[at] == b"id":
                    request_id = fields[at + 1]
                elif fields[at] == b"reply":
                    reply = fields[at + 1]
                elif fields[at] == b"entry":
                    entry = fields[at + 1]
                elif fields[at] == b"f":
                    frames = fields[at + 1]
            if frames is not None:
                if self._frames.take(frames):
                    self._look_now.set()
                continue
            if reply is not None and not is_final(reply):
                continue  # a part of an answer, which is whole later
            for pending in list(self._pending_replies.of(request_id.decode(errors="replace"))):
                if reply is None:
                    self.look(pending)
                elif entry is None:
                    pending.end(reply)
                else:  # the end of one entry, not of the id
                    pending.entry_ended(entry, reply)

    def _take_ends(self, news: list[Any]) -> None:
        """End the requests whose entries ended without a reply that is stored, whichever process admitted them."""
        for news_id, fields in news:
            self._ended_up_to = news_id
            told = {fields[at]: fields[at + 1] for at in range(0, len(fields), 2)}
            request_id = told.get(b"id", b"").decode(errors="replace")
            for pending in list(self._pending_replies.of(request_id)):
                pending.entry_ended(*_end(told, request_id))

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
            overdue_since_s = -math.inf
            if loop.time() >= next_s:
                overdue_since_s = loop.time() - OVERDUE_S
                next_s = loop.time() + SWEEP_S
                self._frames.joined_are_behind()
            try:
                if self._frames.behind:
                    await self._frames.read(self._sweeping)
                if loop.time() >= self._weigh_at_s:
                    self._weigh_at_s = loop.time() + WEIGH_S
                    await self._weigh(self._sweeping)
                await self._sweep(self._pending_replies.take_wanted(overdue_since_s))
            except (RedisError, OSError) as error:
                log.debug("Looking for replies failed: %s", error)
                self._on_error()
                await asyncio.sleep(RETRY_S)

    async def _weigh(self, link: Link) -> None:
        """Leave the stream of ends unread while it is too large to be honest: direct producers may write there, too."""
        (size_bytes,) = await link.call_many((("MEMORY", "USAGE", self._ends, "SAMPLES", 0),))
        too_large = isinstance(size_bytes, int) and size_bytes > limits.ENDS_BYTES
        if too_large and not self._ends_are_too_large:
            log.warning("The termination stream of lane %s takes %d bytes and is not read.", self._lane, size_bytes)
        self._ends_are_too_large = too_large

    async def _sweep(self, wanted: list[str]) -> None:
        while wanted:
            some = wanted[: min(self._at_once, self._portion.of(MOST_PER_SWEEP))]
            lookups = [("LINDEX", keys.reply(self._model, self._lane, request_id), 0) for request_id in some]
            try:
                replies = await self._sweeping.call_many(lookups)
            except (RedisError, OSError):
                self._portion.lost(len(some))
                for pending in (pending for request_id in wanted for pending in self._pending_replies.of(request_id)):
                    pending.look = True
                raise
            self._portion.came()
            wanted = wanted[len(some) :]
            size_bytes = sum(len(reply) for reply in replies if isinstance(reply, bytes))
            self._at_once = lookups_after(self._at_once, size_bytes)
            for request_id, reply in zip(some, replies, strict=True):
                if isinstance(reply, bytes):
                    for pending in list(self._pending_replies.of(request_id)):
                        pending.end(reply)

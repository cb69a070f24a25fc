"""One model's lane as a front end sees it: a pending reply is noted, the request admitted, the reply awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from producer_api.load.lane_account import LaneAccount
from producer_api.load.wait_estimate import Backlog, Service
from shared import keys, limits
from shared.redis import functions
from shared.redis.client import AsyncClient, InPieces, Link
from shared.settings import Settings
from shared.state.lanes import LaneBytes
from shared.wire.messages import Request, encode_request
from shared.wire.outcomes import SHUTTING_DOWN, RequestError

from .admitter import Admitter, Instruments, Submission
from .interface import Parts
from .large_messages import encode_around_body
from .pending import PendingReplies, PendingReply
from .reply_reader import ReplyReader


def _nothing(_: object) -> None:
    """Be called."""


class Wait:
    """One request's wait for its reply, from the moment it is put into the lane."""

    __slots__ = ("_admitter", "_done", "_id_is_generated", "_pending_replies", "pending")

    pending: PendingReply

    def __init__(
        self,
        pending_replies: PendingReplies,
        admitter: Admitter,
        id_is_generated: bool,
        done: Callable[[bytes | RequestError], None],
    ) -> None:
        self._pending_replies, self._admitter = pending_replies, admitter
        self._id_is_generated, self._done = id_is_generated, done

    def end(self, result: bytes | RequestError) -> None:
        """Be called with how the pending reply ends."""
        self._pending_replies.remove(self.pending)
        if self._id_is_generated and type(result) is bytes:
            self._admitter.acknowledge(self.pending.request_id)
        # The callback may refer to this wait, and to the body: no cycle should hold that longer than needed.
        done, self._done = self._done, _nothing
        done(result)

    def give_up(self) -> None:
        """Nobody is interested any more: if nobody can ask again either, the request is cancelled, else it goes on."""
        if not self.pending.ended:
            self._pending_replies.remove(self.pending)
            self.pending.abandon()
            self._done = _nothing
            if self._id_is_generated:
                self._admitter.cancel(self.pending)

    def withdraw(self) -> None:
        """Take back what has ended here, if nobody can ask for its answer: it may still wait in the lane."""
        if self._id_is_generated:
            self._admitter.cancel(self.pending)


class Channel:
    """Joins the admitter and the reply reader of one lane; made on the event loop that uses it.

    Args:
        instance: name of this process; its replies go to the reply stream of that name.
        waits: histogram series of the time until the replies of this lane, in seconds.

    Attributes:
        backlog: how long the lane is, and how quickly it is worked off.
    """

    def __init__(
        self,
        client: AsyncClient,
        settings: Settings,
        model: str,
        instance: str,
        instruments: Instruments,
        waits: Any,
        lane: str = keys.DEFAULT_LANE,
    ) -> None:
        self._settings, self._instance, self._instruments, self.waits = settings, instance, instruments, waits
        self.backlog = Backlog()
        self._request_tokens = 0.0
        self._pending_replies = PendingReplies(asyncio.get_running_loop())
        self._replies = ReplyReader(
            client,
            self._pending_replies,
            model,
            lane,
            instance,
            settings.block_ms,
            on_cursor=self._note_cursor,
            on_error=self._note_error,
        )
        self._admitter = Admitter(
            Link(client),
            model,
            lane,
            instance,
            settings.lane_limit,
            self.backlog,
            instruments,
            self._replies.look,
            settings.front_ends,
        )

    def set_limit(self, limit: int | None) -> None:
        """Take what an operator has set as the lane's limit, None for nothing."""
        self._admitter.limit = self._settings.lane_limit if limit is None else limit

    def set_bytes(self, found: LaneBytes | None, length: int = 0) -> None:
        """Take in what the lane takes, None where that is not known, and how many requests it has."""
        self._admitter.account.seen(found)
        if found is not None and found.tokens and length:
            self._request_tokens = found.tokens / length

    def service_for(self, service: Service) -> Service:
        """Return a service that depends on tokens as this lane's requests see it, by those in it a second ago."""
        return service.for_requests_of(self._request_tokens)

    @property
    def account(self) -> LaneAccount:
        """What the lane takes in bytes."""
        return self._admitter.account

    @property
    def waiting(self) -> int:
        """How many requests wait here for their replies."""
        return len(self._pending_replies)

    @property
    def is_idle(self) -> bool:
        """No request waits, and there is nothing to send."""
        return not self._pending_replies.all() and self._admitter.is_idle

    def start(self) -> None:
        """Begin reading replies."""
        self._replies.start()

    async def close(self) -> None:
        """Stop; requests that still wait end with ``SHUTTING_DOWN``."""
        await self._replies.close()
        await self._admitter.close()
        for pending in self._pending_replies.all():
            pending.fail(SHUTTING_DOWN, "The front end is shutting down; ask again with the same id.")

    def begin(
        self,
        request: Request,
        *,
        id_is_generated: bool,
        done: Callable[[bytes | RequestError], None],
        fingerprint: str = "",
        run_ms: int = 0,
        parts: Parts | None = None,
    ) -> Wait:
        """Put a request into the lane; ``done`` is called once, with the encoded reply or the error that ended it."""
        message = self._message(request, in_pieces=id_is_generated)  # if that fails, nobody may be left waiting
        check, is_heavy = functions.NOT_ASKED_BEFORE, False
        if not id_is_generated:
            expiry_ms = self._settings.flight_expiry_ms(request.ttl_ms + run_ms)
            check = functions.check(request.ttl_ms, expiry_ms, fingerprint)
            is_heavy = len(message) >= limits.LUA_LIMIT_BYTES
        wait = Wait(self._pending_replies, self._admitter, id_is_generated, done)
        wait.pending = self._pending_replies.add(request.id, (request.ttl_ms + run_ms) / 1000, wait.end, parts)
        if request.traceparent is not None:
            wait.pending.traceparent = request.traceparent
        self._admitter.put(Submission(wait.pending, message, check), is_heavy=is_heavy)
        return wait

    def _message(self, request: Request, *, in_pieces: bool) -> bytes | InPieces:
        if not in_pieces or request.body is None or len(request.body) < limits.LUA_LIMIT_BYTES:
            return encode_request(request, self._instance)
        return InPieces(encode_around_body(request, self._instance))

    def connect_anew(self) -> None:
        """Reopen every connection before its next use: the server is no longer the primary."""
        self._admitter.connection_is_suspect = True
        self._replies.connect_anew()

    def _note_cursor(self, cursor: bytes) -> None:
        self._admitter.cursor = cursor

    def _note_error(self) -> None:
        # The server has probably closed the admitting connection, too; noticed here, it costs no request.
        self._instruments.redis_errors.inc()
        self._admitter.connection_is_suspect = True

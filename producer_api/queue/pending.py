"""The requests of one lane that wait in this process for their replies. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shared.wire.outcomes import UNKNOWN_OUTCOME, Outcome, RequestError

from .admission import RETRY_AFTER_S, refusal
from .interface import Parts
from .timer_wheel import TimerWheel


def _nothing(result: bytes | RequestError) -> None:
    """Take the place of a callback that has been called."""


@dataclass(slots=True, eq=False)
class PendingReply:
    """A request that waits.

    Attributes:
        done: called once, with the encoded reply or the error that ended the wait. A callback and not a future: a
            future would have a task woken in the next turn of the event loop.
        since_s: when it began to wait, on the event loop's clock; 0 when its hints may go elsewhere.
        slot: where ``TimerWheel`` keeps it.
        look: the reply key is to be read as soon as possible.
        entry_id: the request's entry in the stream, once known.
        ended: no client waits any more.
        unwanted: no client will ask for the reply either.
        traceparent: the request's own, for the log.
        early: how an entry ended, heard of before it was known whether it is this request's; None for nothing.
        parts: takes the parts of the answer as they come; None where only the whole is wanted.
    """

    request_id: str
    done: Callable[[bytes | RequestError], None]
    since_s: float
    slot: int = 0
    look: bool = False
    entry_id: bytes | None = None
    ended: bool = False
    unwanted: bool = False
    traceparent: str | None = None
    early: tuple[bytes, bytes | RequestError] | None = None
    parts: Parts | None = None

    def fail(self, outcome: Outcome, message: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        """End with an error, unless already ended."""
        self.end(refusal(outcome, message, self.request_id, retry_after_s))

    def join(self, entry_id: bytes) -> None:
        """Wait for an entry that another request of this id has brought here.

        Its hints may go to another front end, so the reply key is looked at regularly, from now on.
        """
        self.since_s = 0.0
        self.entered(entry_id, joined=True)

    def entered(self, entry_id: bytes, *, joined: bool = False) -> None:
        """Take note of the request's entry in the stream."""
        self.entry_id = entry_id
        if self.parts is not None and not self.ended:
            self.parts.admitted(joined=joined)
        if self.early is not None and self.early[0] == entry_id:
            self.end(self.early[1])

    def entry_ended(self, entry_id: bytes, result: bytes | RequestError) -> None:
        """End if that is the entry that is waited for. A later attempt with the same id is another one."""
        if self.entry_id is None:
            self.early = (entry_id, result)
        elif self.entry_id == entry_id:
            self.end(result)

    def end(self, result: bytes | RequestError) -> None:
        """End with a reply or an error, unless already ended."""
        if not self.ended:
            self.ended = True
            # The callback probably refers to this object: left in place, every request would be a cycle for the
            # garbage collector, whose pauses would be the slowest requests.
            done, self.done = self.done, _nothing
            done(result)

    def abandon(self) -> None:
        """End without telling anybody."""
        self.ended, self.done = True, _nothing

    def time_out(self) -> None:
        """End because the time is up."""
        self.fail(
            UNKNOWN_OUTCOME,
            "No reply came in time; whether the request ran is unknown. Ask again with the same id to find out.",
        )


class PendingReplies:
    """Finds pending replies by request id. A client's own id may be waited for several times at once.

    Attributes:
        streamed: those that take parts of their answers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wheel = TimerWheel(loop)
        self._by_id: dict[str, list[PendingReply]] = {}
        self.streamed: set[PendingReply] = set()

    def add(
        self,
        request_id: str,
        ttl_s: float,
        done: Callable[[bytes | RequestError], None],
        parts: Parts | None = None,
    ) -> PendingReply:
        """Begin to wait for a reply, for at most ``ttl_s``; ``done`` is called with how it ends."""
        pending = PendingReply(request_id, done, self._loop.time())
        if parts is not None:
            pending.parts = parts
            self.streamed.add(pending)
        pending.slot = self._wheel.add(pending, pending.since_s + ttl_s)
        self._by_id.setdefault(request_id, []).append(pending)
        return pending

    def remove(self, pending: PendingReply) -> None:
        """Stop waiting."""
        self._wheel.remove(pending, pending.slot)
        same_id = self._by_id[pending.request_id]
        same_id.remove(pending)
        if not same_id:
            del self._by_id[pending.request_id]
        if pending.parts is not None:
            self.streamed.discard(pending)

    def of(self, request_id: str) -> Sequence[PendingReply]:
        """Return the pending replies for this id."""
        return self._by_id.get(request_id, ())

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> Iterable[PendingReply]:
        """Return all pending replies."""
        return [pending for same_id in self._by_id.values() for pending in same_id]

    def take_wanted(self, overdue_since_s: float) -> list[str]:
        """Return the ids whose reply key is to be looked at, and take note that it is.

        Args:
            overdue_since_s: requests that began to wait before this time are overdue; others only if ``look`` is set.
        """
        wanted = []
        for request_id, same_id in self._by_id.items():
            if any(pending.look or pending.since_s <= overdue_since_s for pending in same_id):
                wanted.append(request_id)
                for pending in same_id:
                    pending.look = False
        return wanted

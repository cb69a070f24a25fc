"""The requests of one lane that wait in this process for their replies. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.outcomes import UNKNOWN_OUTCOME, Outcome

from .admission import refusal
from .deadlines import Deadlines


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits.

    Attributes:
        future: ends with the encoded reply, or an error.
        since_s: when it began to wait, on the event loop's clock.
        deadline_slot: where ``Deadlines`` keeps it.
        look: the reply key is to be read as soon as possible.
        entry_id: the request's entry in the stream, once known.
    """

    request_id: str
    future: asyncio.Future[bytes]
    since_s: float
    deadline_slot: int = 0
    look: bool = False
    entry_id: bytes | None = None

    def fail(self, outcome: Outcome, message: str) -> None:
        """End with an error, unless already ended."""
        if not self.future.done():
            self.future.set_exception(refusal(outcome, message, self.request_id))

    def answer(self, reply: bytes) -> None:
        """End with a reply, unless already ended."""
        if not self.future.done():
            self.future.set_result(reply)

    def time_out(self) -> None:
        """End because the time is up."""
        self.fail(
            UNKNOWN_OUTCOME,
            "No reply came in time; whether the request ran is unknown. Ask again with the same id to find out.",
        )


class Waiters:
    """Finds waiters by request id. A client's own id may be waited for several times at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines = Deadlines(loop)
        self._by_id: dict[str, list[Waiter]] = {}

    def add(self, request_id: str, ttl_s: float) -> Waiter:
        """Begin to wait for a reply, for at most ``ttl_s``."""
        waiter = Waiter(request_id, self._loop.create_future(), self._loop.time())
        waiter.deadline_slot = self._deadlines.add(waiter, waiter.since_s + ttl_s)
        self._by_id.setdefault(request_id, []).append(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Stop waiting."""
        self._deadlines.remove(waiter, waiter.deadline_slot)
        waiters = self._by_id[waiter.request_id]
        waiters.remove(waiter)
        if not waiters:
            del self._by_id[waiter.request_id]

    def of(self, request_id: str) -> Sequence[Waiter]:
        """Return who waits for this id."""
        return self._by_id.get(request_id, ())

    def all(self) -> Iterable[Waiter]:
        """Return everybody."""
        return [waiter for waiters in self._by_id.values() for waiter in waiters]

    def take_wanted(self, overdue_since_s: float) -> list[str]:
        """Return the ids whose reply key is to be looked at, and take note that it is.

        Args:
            overdue_since_s: who began to wait before this time is overdue; the rest only when asked for.
        """
        wanted = []
        for request_id, waiters in self._by_id.items():
            if any(waiter.look or waiter.since_s <= overdue_since_s for waiter in waiters):
                wanted.append(request_id)
                for waiter in waiters:
                    waiter.look = False
        return wanted

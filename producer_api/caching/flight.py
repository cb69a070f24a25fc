"""One inference that several requests wait for. No I/O: the event loop's clock and timers come in as arguments."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from producer_api.queue.interface import Answer, GiveUp
from shared.wire.messages import Request
from shared.wire.outcomes import CANCELLED, EXPIRED, UNKNOWN_OUTCOME, RequestError

Done = Callable[[Answer | RequestError], None]

Launch = Callable[[Request, Done], GiveUp]
"""Puts a request into the queue; raises a :class:`RequestError` where it is refused at once."""

OF_ONE = frozenset({CANCELLED, EXPIRED, UNKNOWN_OUTCOME})
"""Ends that say nothing of the input, but of one request's time or of somebody who took it back."""

TOO_LATE = "No answer came in time; an equal request that was sent before it still runs."


class Waiter:
    """One request that waits.

    Attributes:
        until_s: its time is up then.
        alone: ends its wait once it has an inference of its own; None until then.
    """

    __slots__ = ("alone", "done", "request", "until_s")

    def __init__(self, request: Request, until_s: float, done: Done) -> None:
        self.request, self.until_s, self.done = request, until_s, done
        self.alone: GiveUp | None = None


class Flight:
    """An inference and those who wait for it. The first one asked for it, and the others have the same input.

    If its end is that of one request alone, such as a deadline, it is asked for again on behalf of the next one. It is
    taken back when nobody waits any more.

    Args:
        launch: puts a request into the queue.
        now_s: the clock of ``until_s``.
        landed: called with how it ended, before those who wait are; returns what they are to be told of it.
        is_over: called when nobody can join any more.
    """

    def __init__(
        self,
        launch: Launch,
        now_s: Callable[[], float],
        landed: Callable[[Answer], Answer | None],
        is_over: Callable[[Flight], None],
    ) -> None:
        self._launch, self._now_s, self._landed, self._is_over = launch, now_s, landed, is_over
        self._waiters: list[Waiter] = []
        self._asker: Waiter | None = None
        self._give_up: GiveUp | None = None
        self._ended = False

    def begin(self, first: Waiter) -> None:
        """Ask for it.

        Raises:
            RequestError: it is refused at once; nobody waits then.
        """
        self._waiters.append(first)
        try:
            self._ask(first, first.request)
        except BaseException:
            self._waiters.remove(first)
            self._end()
            raise

    def join(self, waiter: Waiter) -> None:
        """Wait for it, too."""
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        if waiter.alone is not None:
            waiter.alone()
        if waiter not in self._waiters:
            return
        self._waiters.remove(waiter)
        if not self._waiters and not self._ended:
            self._end()
            if self._give_up is not None:
                self._give_up()

    def time_out(self, waiter: Waiter) -> None:
        """End one whose time is up, unless it has ended."""
        if waiter in self._waiters:
            self.leave(waiter)
            waiter.done(RequestError(UNKNOWN_OUTCOME, TOO_LATE, request_id=waiter.request.id))

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._is_over(self)

    def _ask(self, asker: Waiter, request: Request) -> None:
        self._asker, self._give_up = asker, None
        give_up = self._launch(request, self._came)
        if not self._ended:
            self._give_up = give_up

    def _came(self, result: Answer | RequestError) -> None:
        """Take the end of what was asked for. Must not raise."""
        if isinstance(result, RequestError) and result.outcome in OF_ONE:
            asker = self._asker
            if asker in self._waiters:
                self._waiters.remove(asker)
                asker.done(result)
            self._ask_for_the_next()
            return
        self._end()
        waiters, self._waiters = self._waiters, []
        told = self._landed(result) if isinstance(result, Answer) else result
        for waiter in waiters:
            if waiter is self._asker:
                waiter.done(result)
            elif told is None:
                self._send_alone(waiter)
            else:
                waiter.done(_own(told, waiter.request.id))

    def _ask_for_the_next(self) -> None:
        while self._waiters:
            waiter = self._waiters[0]
            try:
                self._ask(waiter, self._with_time_left(waiter))
            except RequestError as error:
                self._waiters.remove(waiter)
                waiter.done(error)
            else:
                return
        self._end()

    def _send_alone(self, waiter: Waiter) -> None:
        try:
            waiter.alone = self._launch(self._with_time_left(waiter), waiter.done)
        except RequestError as error:
            waiter.done(error)

    def _with_time_left(self, waiter: Waiter) -> Request:
        left_ms = int((waiter.until_s - self._now_s()) * 1000)
        return msgspec.structs.replace(waiter.request, ttl_ms=max(1, left_ms))


def _own(result: Answer | RequestError, request_id: str) -> Answer | RequestError:
    """Return what another request was answered as an answer to this one."""
    if isinstance(result, Answer):
        return msgspec.structs.replace(result, reply=msgspec.structs.replace(result.reply, id=request_id))
    return RequestError(
        result.outcome,
        result.message,
        field=result.field,
        request_id=request_id,
        retry_after_s=result.retry_after_s,
    )

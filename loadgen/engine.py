"""[I/O] Sends a planned load over keep-alive connections and records when each request was due, sent and done.

The pacer works with absolute due times: at every wake-up it turns to all requests whose time has come, so one late
wake-up never delays the rest of the plan. Event-loop timers are good to about a millisecond; how late the generator
was is recorded per request, and latency counts from the due time in any case.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Final

from .connection import IDLE, Connection
from .ledger import CONNECTION, DROPPED, INTERRUPTED, MALFORMED, OK, OPEN, TIMEOUT, Ledger
from .pool import Pool
from .replies import ReplyCheck, error_code
from .scenario import Scenario

_SWEEP_S: Final = 0.02
_GRACE_S: Final = 0.02
"""Time before the first planned request, so that starting does not make it late."""
_AFTER_FAILURE_S: Final = 0.01


class Engine:
    """One run. The attributes without underscore may be read at any time from the event loop's thread.

    `recent_ms` has the latency of each request that ended, infinite for failures; who shows progress empties it.

    Args:
        plan: due times of an open loop in seconds from the start of the measured time, ascending; the warm-up's are
            negative. Empty for a closed loop.
        order: payload indices, one per request; never ends.
    """

    def __init__(
        self, scenario: Scenario, plan: Sequence[float], order: Iterator[int], address: tuple[str, int]
    ) -> None:
        self._scenario, self._plan, self._order = scenario, plan, order
        self._requests = [scenario.encode(payload) for payload in scenario.payloads]
        self._check = ReplyCheck(scenario.seed)
        self.ledger = Ledger()
        self.in_flight = self.ok = self.failed = 0
        self.recent_ms: list[float] = []
        self.start_s = self.end_s = 0.0
        self._next = 0
        self._sending = True
        self._carrying: dict[int, Connection] = {}
        self._waiting: deque[int] = deque()
        self._waiting_for_new: deque[int] = deque()
        self._expiring: deque[int] = deque()
        self._pool = Pool(
            lambda: Connection(self),
            self._connected,
            self._unconnected,
            address,
            scenario.connections,
            scenario.timeout_s,
        )
        self._over: asyncio.Future[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def parsed_replies(self) -> int:
        """How many answers were parsed in full rather than looked at."""
        return self._check.parsed

    async def run(self) -> None:
        """Send the plan and return when every request has its outcome."""
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        grace_s = _GRACE_S if self._scenario.concurrency is None else 0.0
        self.start_s = perf_counter() + grace_s + self._scenario.warmup_s
        self.end_s = self.start_s + self._scenario.duration_s
        if self._scenario.concurrency is None:
            self._pace()
        else:
            for _ in range(self._scenario.concurrency):
                self._next_of_closed_loop()
        self._sweep()
        try:
            await self._over
        finally:
            await self._shut()

    def stop(self) -> None:
        """End early: nothing more is sent, and what is under way counts as interrupted."""
        self._sending = False
        now_s = perf_counter()
        for index in self._expiring:
            if self.ledger.close(index, INTERRUPTED, now_s):
                self.in_flight -= 1
        self._finish_if_done()

    # Pacing

    def _pace(self) -> None:
        plan, start_s = self._plan, self.start_s
        while self._sending and self._next < len(plan):
            due_s = start_s + plan[self._next]
            wait_s = due_s - perf_counter()
            if wait_s > 0:
                self._timers["pace"] = self._loop.call_later(wait_s, self._pace)
                return
            self._next += 1
            self._dispatch(due_s)
        self._sending = False
        self._finish_if_done()

    def _next_of_closed_loop(self) -> None:
        now_s = perf_counter()
        if self._sending and now_s < self.end_s:
            self._dispatch(now_s)
        else:
            self._sending = False
            self._finish_if_done()

    def _dispatch(self, due_s: float) -> None:
        now_s = perf_counter()
        index = self.ledger.open(due_s, now_s, next(self._order), due_s < self.start_s)
        if self.in_flight >= self._scenario.max_in_flight:
            self.ledger.close(index, DROPPED, now_s)
            self._fail()
            return
        self.in_flight += 1
        self._expiring.append(index)
        connection = self._pool.take(now_s)
        if connection is not None:
            self._send(connection, index)
        else:
            self._waiting.append(index)
            self._pool.grow(len(self._waiting) + len(self._waiting_for_new))

    def _send(self, connection: Connection, index: int) -> None:
        ledger = self.ledger
        self._carrying[index] = connection
        ledger.sent_s[index] = perf_counter()
        connection.send(index, self._requests[ledger.payload[index]])

    # Outcomes

    def answered(self, connection: Connection, index: int, status: int, body: bytes, whole: bool, at_s: float) -> None:
        """A connection has the answer to a request (see `connection.Owner`)."""
        del self._carrying[index]
        if status == 200:
            outcome = OK if self._check.is_answer(body, must_parse=not whole) else MALFORMED
        else:
            outcome = self.ledger.http_outcome(status, error_code(body))
        if connection.is_open:
            self._use(connection)
        else:
            self._gone(connection)
        self._end(index, outcome, at_s)

    def broken(self, connection: Connection, index: int, untouched: bool, garbled: bool, at_s: float) -> None:
        """A connection was lost (see `connection.Owner`)."""
        if index == IDLE:
            self._gone(connection)
            return
        del self._carrying[index]
        if untouched and not garbled:
            # The server closed between two requests, as HTTP allows it to: once more, on another connection, with
            # the latency still counted from the due time. A kept one might be closing too, so it waits for a new one,
            # which is never `untouched`: if that one breaks, the request has failed.
            self.ledger.resent += 1
            self._waiting_for_new.append(index)
            self._gone(connection)
            return
        self._gone(connection)
        self._end(index, MALFORMED if garbled else CONNECTION, at_s)

    def _end(self, index: int, outcome: int, at_s: float) -> None:
        if self.ledger.close(index, outcome, at_s):
            self.in_flight -= 1
            if outcome == OK:
                self.ok += 1
                self.recent_ms.append((at_s - self.ledger.planned_s[index]) * 1000)
            else:
                self._fail()
            if self._scenario.concurrency is not None and self._sending:
                if outcome == OK:
                    self._next_of_closed_loop()
                else:  # a service that refuses at once must not be asked as fast as the loop can turn
                    self._loop.call_later(_AFTER_FAILURE_S, self._next_of_closed_loop)
            elif not self._sending:
                self._finish_if_done()

    def _fail(self) -> None:
        self.failed += 1
        self.recent_ms.append(math.inf)

    def _sweep(self) -> None:
        """Give requests beyond their time limit their outcome; they expire in the order in which they were due."""
        ledger, now_s = self.ledger, perf_counter()
        oldest_s = now_s - self._scenario.timeout_s
        while self._expiring:
            index = self._expiring[0]
            if ledger.outcome[index] == OPEN:
                if ledger.planned_s[index] > oldest_s:
                    break
                connection = self._carrying.pop(index, None)
                if connection is not None:
                    connection.abandon()
                    self._gone(connection)
                self._end(index, TIMEOUT, now_s)
            self._expiring.popleft()
        self._timers["sweep"] = self._loop.call_later(_SWEEP_S, self._sweep)

    def _finish_if_done(self) -> None:
        if not self._sending and self.in_flight == 0 and self._over and not self._over.done():
            self._over.set_result(None)

    # Connections

    def _use(self, connection: Connection) -> None:
        """Give a free connection the longest waiting request, or keep it."""
        index = self._longest(self._waiting)
        if index is None:
            self._pool.keep(connection)
        else:
            self._send(connection, index)

    def _connected(self, connection: Connection) -> None:
        index = self._longest(self._waiting_for_new)
        if index is None:
            self._use(connection)
        else:
            self._send(connection, index)

    def _unconnected(self) -> None:
        index = self._longest(self._waiting_for_new)
        if index is None:
            index = self._longest(self._waiting)
        if index is not None:
            self._end(index, CONNECTION, perf_counter())
        self._pool.grow(len(self._waiting) + len(self._waiting_for_new))

    def _gone(self, connection: Connection) -> None:
        self._pool.gone(connection)
        self._pool.grow(len(self._waiting) + len(self._waiting_for_new))

    def _longest(self, waiting: deque[int]) -> int | None:
        while waiting:
            index = waiting.popleft()
            if self.ledger.outcome[index] == OPEN:
                return index
        return None

    async def _shut(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for connection in self._carrying.values():
            connection.abandon()
        await self._pool.shut()

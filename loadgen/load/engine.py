"""[I/O] Sends a planned load and records when each request was due, sent and done.

The pacer works with absolute due times: at every wake-up it turns to all requests whose time has come, so one late
wake-up never delays the rest of the plan. How late the generator was is recorded per request, and latency counts from
the due time in any case. What carries the requests (HTTP
connections, or a Redis stream) is a `Carrier`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Final, Protocol

from loadgen.results.ledger import DROPPED, INTERRUPTED, OK, OPEN, TIMEOUT, Ledger
from loadgen.scenario import Scenario

from .alarm import Alarm
from .http_carrier import HttpCarrier
from .stream_carrier import StreamCarrier
from .texts.carriers import ChatCarrier, EmbedCarrier

_SWEEP_S: Final = 0.02
_GRACE_S: Final = 0.02
"""Time before the first planned request, so that starting does not make it late."""
_AFTER_FAILURE_S: Final = 0.01


class Carrier(Protocol):
    """Brings requests to the service. It was given `Engine.ended`, and calls it once for each request launched."""

    @property
    def parsed_replies(self) -> int:
        """How many answers were parsed in full."""

    async def open(self) -> None:
        """Get ready to send."""

    def launch(self, index: int, now_s: float) -> None:
        """Send the request with this index in the ledger, or have it wait for its turn."""

    def give_up(self, index: int) -> None:
        """The time of a request is out; its outcome is known already."""

    async def shut(self) -> None:
        """Close everything."""


def _carrier_for(scenario: Scenario) -> type[HttpCarrier] | type[StreamCarrier]:
    if scenario.target.is_stream:
        return StreamCarrier
    if scenario.workload is None:
        return HttpCarrier
    return ChatCarrier if scenario.workload.kind == "chat" else EmbedCarrier


class Engine:
    """One run. The attributes without underscore may be read at any time from the event loop's thread.

    `recent_ms` has the latency of each request that ended, infinite for failures, and `recent_ttft_ms` the time to the
    first token of those that had one; the progress display empties them.

    Args:
        plan: due times of an open loop in seconds from the start of the measured time, ascending; the warm-up's are
            negative. Empty for a closed loop.
        order: payload indices, one per request; never ends.
    """

    def __init__(
        self, scenario: Scenario, plan: Sequence[float], order: Iterator[int], address: tuple[str, int]
    ) -> None:
        self.scenario, self._plan, self._order = scenario, plan, order
        self.ledger = Ledger(reads_texts=scenario.workload is not None)
        self._carrier: Carrier = _carrier_for(scenario)(scenario, self.ledger, address, self._ended)
        self._most = scenario.requests or math.inf
        self.in_flight = self.ok = self.failed = self.most_in_flight = 0
        self.recent_ms: list[float] = []
        self.recent_ttft_ms: list[float] = []
        self.start_s = self.end_s = 0.0
        self._next = 0
        self._sending = True
        self._expiring: deque[int] = deque()
        self._over: asyncio.Future[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def parsed_replies(self) -> int:
        """How many answers were parsed in full rather than looked at."""
        return self._carrier.parsed_replies

    async def run(self) -> None:
        """Send the plan and return when every request has its outcome."""
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._alarm = Alarm(self._loop, self._pace)
        try:
            await self._carrier.open()
            grace_s = _GRACE_S if self.scenario.concurrency is None else 0.0
            self.start_s = perf_counter() + grace_s + self.scenario.warmup_s
            self.end_s = self.start_s + self.scenario.duration_s
            if self.scenario.concurrency is None:
                self._pace()
            else:
                for _ in range(self.scenario.concurrency):
                    self._next_of_closed_loop()
            self._sweep()
            await self._over
        finally:
            self._alarm.close()
            for timer in self._timers.values():
                timer.cancel()
            await self._carrier.shut()

    def stop(self) -> None:
        """End early: send nothing more, and count requests in flight as interrupted."""
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
            if due_s > perf_counter():
                self._alarm.set(due_s)
                return
            self._next += 1
            self._dispatch(due_s)
        self._sending = False
        self._finish_if_done()

    def _next_of_closed_loop(self) -> None:
        now_s = perf_counter()
        if self._sending and now_s < self.end_s and len(self.ledger) < self._most:
            self._dispatch(now_s)
        else:
            self._sending = False
            self._finish_if_done()

    def _dispatch(self, due_s: float) -> None:
        now_s = perf_counter()
        index = self.ledger.open(due_s, now_s, next(self._order), due_s < self.start_s)
        if self.in_flight >= self.scenario.max_in_flight:
            self.ledger.close(index, DROPPED, now_s)
            self._fail()
            return
        self.in_flight += 1
        if self.in_flight > self.most_in_flight:
            self.most_in_flight = self.in_flight
        self._expiring.append(index)
        self._carrier.launch(index, now_s)

    # Outcomes

    def _ended(self, index: int, outcome: int, at_s: float) -> None:
        if self.ledger.close(index, outcome, at_s):
            self.in_flight -= 1
            if outcome == OK:
                self.ok += 1
                self.recent_ms.append((at_s - self.ledger.planned_s[index]) * 1000)
                if self.ledger.reads_texts:
                    self._note_first_token(index)
            else:
                self._fail()
            if self.scenario.concurrency is not None and self._sending:
                if outcome == OK:
                    self._next_of_closed_loop()
                else:  # do not repeat as fast as the loop can turn when a service refuses at once
                    self._loop.call_later(_AFTER_FAILURE_S, self._next_of_closed_loop)
            elif not self._sending:
                self._finish_if_done()

    def _note_first_token(self, index: int) -> None:
        ttft_ms = (self.ledger.told[index].first_s - self.ledger.planned_s[index]) * 1000
        if not math.isnan(ttft_ms):
            self.recent_ttft_ms.append(ttft_ms)

    def _fail(self) -> None:
        self.failed += 1
        self.recent_ms.append(math.inf)

    def _sweep(self) -> None:
        """Give requests beyond their time limit their outcome; they expire in the order in which they were due."""
        ledger, now_s = self.ledger, perf_counter()
        oldest_s = now_s - self.scenario.timeout_s
        while self._expiring:
            index = self._expiring[0]
            if ledger.outcome[index] == OPEN:
                if ledger.planned_s[index] > oldest_s:
                    break
                self._carrier.give_up(index)
                self._ended(index, TIMEOUT, now_s)
            self._expiring.popleft()
        self._timers["sweep"] = self._loop.call_later(_SWEEP_S, self._sweep)

    def _finish_if_done(self) -> None:
        if not self._sending and self.in_flight == 0 and self._over and not self._over.done():
            self._over.set_result(None)

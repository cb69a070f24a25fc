"""[I/O] Carries requests over keep-alive HTTP connections, and tells the engine what became of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from loadgen.results.ledger import CONNECTION, MALFORMED, OK, OPEN, Ledger
from loadgen.scenario import Scenario

from .connection import IDLE, Connection
from .pool import Pool
from .replies import ReplyCheck, error_code

Ended = Callable[[int, int, float], None]
_CROSSING_S: Final = 0.05
"""A close that crosses a request on its way is there within a round trip. One that comes later than this may be the
service's answer to the request: a handler that crashed, a process that died over its work."""


class HttpCarrier:
    """The connections of one run.

    Args:
        ended: is called with a request's index, its outcome and the time at which that was known.
    """

    def __init__(self, scenario: Scenario, ledger: Ledger, address: tuple[str, int], ended: Ended) -> None:
        self._ledger, self._ended = ledger, ended
        self._requests = [scenario.encode(payload) for payload in scenario.payloads]
        self._check = ReplyCheck(scenario.seed, scenario.accept)
        self.answers_read = 0
        self._carrying: dict[int, Connection] = {}
        self._waiting: deque[int] = deque()
        self._waiting_for_new: deque[int] = deque()
        self._pool = Pool(
            self.make_connection,
            self._connected,
            self._unconnected,
            address,
            scenario.connections,
            scenario.timeout_s,
        )

    @property
    def parsed_replies(self) -> int:
        """How many answers were parsed in full rather than looked at."""
        return self._check.parsed + self.answers_read

    async def open(self) -> None:
        """Do nothing: connections are opened as they are needed."""

    def launch(self, index: int, now_s: float) -> None:
        """Send a request, or have it wait for a connection."""
        connection = self._pool.take(now_s)
        if connection is not None:
            self._send(connection, index)
        else:
            self._waiting.append(index)
            self._grow()

    def give_up(self, index: int) -> None:
        """Drop a request that timed out, and the connection that would bring its answer."""
        connection = self._carrying.pop(index, None)
        if connection is not None:
            connection.abandon()
            self._gone(connection)

    async def shut(self) -> None:
        """Close every connection."""
        for connection in self._carrying.values():
            connection.abandon()
        await self._pool.shut()

    # What connections report

    def answered(self, connection: Connection, index: int, status: int, body: bytes, whole: bool, at_s: float) -> None:
        """A connection has the answer to a request (see `connection.Owner`)."""
        del self._carrying[index]
        if status == 200:
            outcome = self.outcome_of(index, body, whole)
        else:
            outcome = self._ledger.http_outcome(status, error_code(body))
        if connection.is_open:
            self._use(connection)
        else:
            self._gone(connection)
        self._ended(index, outcome, at_s)

    def broken(self, connection: Connection, index: int, untouched: bool, garbled: bool, at_s: float) -> None:
        """A connection was lost (see `connection.Owner`)."""
        if index == IDLE:
            self._gone(connection)
            return
        del self._carrying[index]
        if untouched and not garbled and at_s - self._ledger.sent_s[index] < _CROSSING_S:
            # The server closed between two requests, as HTTP allows it to: once more, on another connection, with
            # the latency still counted from the due time. A kept one might be closing too, so it waits for a new one,
            # which is never `untouched`: if that one breaks, the request has failed.
            self._ledger.resent += 1
            self._waiting_for_new.append(index)
            self._gone(connection)
            return
        self._gone(connection)
        self._ended(index, MALFORMED if garbled else CONNECTION, at_s)

    def outcome_of(self, index: int, body: bytes, whole: bool) -> int:
        """Return what became of a request whose answer has status 200."""
        return OK if self._check.is_answer(body, must_parse=not whole) else MALFORMED

    # Connections

    def make_connection(self) -> Connection:
        """Return a new connection that reports to this carrier."""
        return Connection(self)

    def _send(self, connection: Connection, index: int) -> None:
        self._carrying[index] = connection
        self._ledger.sent_s[index] = perf_counter()
        connection.send(index, self._requests[self._ledger.payload[index]])

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
            self._ended(index, CONNECTION, perf_counter())
        self._grow()

    def _gone(self, connection: Connection) -> None:
        self._pool.gone(connection)
        self._grow()

    def _grow(self) -> None:
        self._pool.grow(len(self._waiting) + len(self._waiting_for_new))

    def _longest(self, waiting: deque[int]) -> int | None:
        while waiting:
            index = waiting.popleft()
            if self._ledger.outcome[index] == OPEN:
                return index
        return None

"""The HTTP protocol of the front end: the express way where it can be taken, uvicorn's for everything else."""

from __future__ import annotations

from asyncio import TimerHandle
from time import perf_counter
from typing import Any, ClassVar

from producer_api.inference.codec import Response
from producer_api.inference.exchanges.exchange import Exchange
from producer_api.load.body_budget import IncomingBody

from . import responses
from .express import MOST_BYTES, START, Express, KnownHead
from .guarded_protocol import END, GuardedProtocol

MOST_COLLECTED_BYTES = 1024 * 1024
"""A longer body that comes in pieces goes the ordinary way, which refuses before the body is here when all is full."""


class ExpressProtocol(GuardedProtocol):
    """Answers requests with a known head by itself. One request at a time per connection, in order.

    Attributes:
        express: a class attribute, set by ``server.config``; None sends everything the ordinary way.
        patience_s: a body that takes longer than this goes the ordinary way, which has the limits for slow ones.
    """

    express: ClassVar[Express | None] = None
    patience_s: ClassVar[float] = 1.0

    _answering = False
    _under_way: Exchange | None = None
    _candidate: bytes | None = None
    _partial: tuple[KnownHead, bytes] | None = None
    _parts: list[memoryview]
    _missing_bytes = 0
    _incoming: IncomingBody
    _idle_timer: TimerHandle | None = None
    _idle_since_s: float | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._partial is not None:
            self._end_collecting()
        if self._under_way is not None:
            self._under_way.abandon()
            self._under_way = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._partial is not None:
            self._collect(data)
        elif data.startswith(START) and self._is_between_messages():
            self._look_up(data, 0)
        elif self._ending:
            self._drop(data)
        elif self.flow.is_held or self._must_wait():
            self._hold(data, 0)
        else:
            self._take_ordinary_way(data, 0, None)

    def _is_between_messages(self) -> bool:
        return (
            self.express is not None
            and not self._answering
            and not self.flow.is_held
            and not self._in_head
            and not self._in_body
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused  # a client that does not read its answers is not read from
            and not self.transport.is_closing()
        )

    def _must_wait(self) -> bool:
        return self._answering or super()._must_wait()

    def _is_idle(self) -> bool:
        return not self._answering and super()._is_idle()

    def is_new(self, since_s: float) -> bool:
        """See there. A request that was answered this way leaves no trace but the time since when there is none."""
        is_used = self._answering or self._partial is not None or self._idle_since_s is not None
        return not is_used and super().is_new(since_s)

    def _take(self, data: bytes, at: int) -> None:
        """Answer a request with a known head by itself; all else is parsed."""
        if data.startswith(START, at) and self._is_between_messages():
            self._look_up(data, at)
        else:
            self._take_ordinary_way(data, at, None)

    def _look_up(self, data: bytes, at: int) -> None:
        assert self.express is not None
        end = data.find(END, at, at + MOST_BYTES) + len(END)
        if end < len(END):
            self._take_ordinary_way(data, at, None)
            return
        head = data[at:end]
        known = self.express.heads.get(head)
        if known is None or len(data) - end > known.body_bytes:  # what follows would be a pipelined request
            self._take_ordinary_way(data, at, head)
            return
        self._unset_keepalive_if_required()
        self._disarm()
        self._idle_since_s = None
        if len(data) - end == known.body_bytes:
            self._begin(known, data[end:])
        elif known.body_bytes > MOST_COLLECTED_BYTES:
            self._take_ordinary_way(data, at, None)
        else:
            self._partial = (known, head)
            self._parts, self._missing_bytes = [memoryview(data)[end:]], known.body_bytes - (len(data) - end)
            self._timer = self.loop.call_later(self.patience_s, self._hand_over)
            self._incoming = self.express.context.body_budget.begin()
            if not self._incoming.take(len(data) - end, self.loop.time()):
                self._hand_over()

    def _take_ordinary_way(self, data: bytes, at: int, head: bytes | None) -> None:
        self._candidate, self._idle_since_s = head, None
        self._parse(data, at)
        self._candidate = None

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        head, self._candidate = self._candidate, None
        if head is None or self.express is None or self._offered:
            return
        if self.parser.should_keep_alive() and self.scope["http_version"] == "1.1":
            self.express.heads.learn(head, self.url, self.scope["headers"])  # type: ignore[arg-type]

    def _collect(self, data: bytes) -> None:
        """Take more of a body; what lies beyond its end is the next request."""
        assert self._partial is not None
        rest = data[self._missing_bytes :]
        self._parts.append(memoryview(data)[: self._missing_bytes])
        self._missing_bytes -= len(self._parts[-1])
        if self._missing_bytes > 0:
            if not self._incoming.take(len(self._parts[-1]), self.loop.time()):
                self._hand_over()  # that way it is refused
            return
        known, _, parts = self._end_collecting()
        self._answering = True
        if rest:
            self._hold(rest, 0)
        self._begin(known, b"".join(parts))

    def _hand_over(self) -> None:
        """Let the ordinary way have what has come of a body."""
        if self._partial is None:
            return
        _, head, parts = self._end_collecting()
        self._take_ordinary_way(b"".join((head, *parts)), 0, None)

    def _end_collecting(self) -> tuple[KnownHead, bytes, list[memoryview]]:
        """Collect no more of a body; returns what its head says, the head, and what has come of the body."""
        assert self._partial is not None
        self._disarm()
        self._incoming.end()
        (known, head), self._partial = self._partial, None
        parts, self._parts = self._parts, []
        return known, head, parts

    def _begin(self, known: KnownHead, body: bytes) -> None:
        assert self.express is not None
        self._answering = True
        self._under_way = exchange = Exchange(self.express.context, known.head)
        exchange.start(body, self._respond)

    def _respond(self, exchange: Exchange, response: Response) -> None:
        assert self.express is not None
        took_s = perf_counter() - exchange.started_s
        self.express.context.metrics.observe_request(exchange.head.route, response.status, took_s)
        self.server_state.total_requests += 1
        self._under_way = None  # it knows the whole request, which an idle connection must not keep
        self._answering = False
        transport = self.transport
        if transport.is_closing():
            return
        if self._closing and not self._held:
            response.is_last = True
        transport.write(responses.encode(response, exchange.head.extra_lines))
        if response.is_last:
            transport.close()
        elif self._held:
            self.loop.call_soon(self._go_on)
        else:
            self._idle_since_s = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """One timer for many requests: a connection that has been used meanwhile gets another look later."""
        self._idle_timer = None
        if self._idle_since_s is None or self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self._close_unused()
        else:
            self._idle_timer = self.loop.call_later(left_s, self._close_if_idle)

    def shutdown(self) -> None:
        """Close after the answer that is being made, or at once when there is none."""
        self._hand_over()
        if self._answering and not self._ending:
            self._closing = self._is_stopping = True
        else:
            super().shutdown()


def protocol(**overrides: Any) -> type[ExpressProtocol]:
    """Return the protocol class with other limits, such as ``head_timeout_s=0.1``."""
    return type("ExpressProtocol", (ExpressProtocol,), overrides)

"""A connection's life around its requests: what waits to be parsed, what waits to be read, and how it ends.

Three things that uvicorn leaves open:

- Requests that come before the last one was answered wait as bytes, in an account, and are parsed one at a time.
- A client that reads nothing of its answer for too long loses its connection. Unread answers count in an account.
- The close is orderly. Closing a socket with unread bytes in it resets the connection, and the client may lose
  the answer that is on its way. So we close our sending side, read and drop for a while, and only then close.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from producer_api.load.answer_budget import UnreadAnswer
from producer_api.load.body_budget import IncomingBody

from .rules import Rules
from .write_coalescing import CoalescingTransport

LINGER_BYTES = 64 * 1024 * 1024
LINGER_S = 30.0
LINGER_QUIET_S = 5.0
"""How much, for how long, and how long without a byte is still read and dropped after the last answer."""

STOPPING_LINGER_S = 1.0
"""The same for a process that is about to end."""


class Flow(FlowControl):
    """uvicorn's, but reads nothing while bytes from earlier reads still wait."""

    is_held = False

    def resume_reading(self) -> None:
        """See there."""
        if not self.is_held:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """uvicorn's httptools protocol with limits on what waits.

    Attributes:
        rules: a class attribute, set by ``server.config``.
    """

    rules: ClassVar[Rules] = Rules()

    transport: CoalescingTransport  # type: ignore[assignment]
    flow: Flow

    _in_head = False
    _in_body = False
    _closing = False  # each answer is the last, unless something is held
    _ending = False
    _is_stopping = False
    _held: bytes = b""
    _held_at = 0
    _holding: IncomingBody | None = None
    _unread: UnreadAnswer | None = None
    _taken_bytes = 0
    _dropped_bytes = 0
    _sent_bytes = 0
    _ended_bytes = 0
    _made_s = 0.0
    _end_s = 0.0
    _watch: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        wrapped = CoalescingTransport(transport, self.loop, self._end)
        super().connection_made(wrapped)  # type: ignore[arg-type]
        self.flow = Flow(wrapped)  # type: ignore[arg-type]
        # Notice a client that does not read its answer at once: from the first byte that has to wait, until none does.
        transport.set_write_buffer_limits(high=1, low=0)
        self._closing = self.rules.is_draining
        self._made_s = self.loop.time()

    def eof_received(self) -> None:
        """The client sends no more; what it is still to get is sent, as long as it takes it."""
        if self.transport.unread_bytes():
            self._expect_progress(0)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.is_over = True
        self._stop_watching()
        self._forget_held()
        super().connection_lost(exc)

    # What waits to be parsed

    def _must_wait(self) -> bool:
        """Say whether the next request has to wait: the last one is not answered, or its answer not taken."""
        if self._in_head or self._in_body:
            return False
        return self.flow.write_paused or (self.cycle is not None and not self.cycle.response_complete)

    def _hold(self, data: bytes, at: int) -> None:
        """Keep what has come, from ``at`` on, until its turn."""
        if self._held:
            data, at = b"".join((memoryview(self._held)[self._held_at :], memoryview(data)[at:])), 0
        self._forget_held()
        self.flow.pause_reading()
        self.flow.is_held = True
        self._holding = self.rules.body_budget.begin()
        self._holding.on_given_up = self._give_up_held
        if self._holding.take(len(data), self.loop.time()):
            self._held, self._held_at = data, at
        else:
            self._give_up_held()

    def _forget_held(self) -> None:
        self._held, self._held_at = b"", 0
        if self._holding is not None:
            self._holding.end()
            self._holding = None

    def _give_up_held(self) -> None:
        """There is no room for what waits: the answer that is being made is the last one. Nothing more is read."""
        self._forget_held()
        self._closing = True
        if self._is_idle():
            self.loop.call_soon(self.transport.close)
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    def _go_on(self) -> None:
        """Take the next request of what is held, if its turn has come."""
        if not self._held or self.transport.is_closing() or self._must_wait():
            return
        data, at, self._held = self._held, self._held_at, b""
        self.flow.is_held = False
        self._take(data, at)
        if self.flow.is_held or self.transport.is_closing():
            return
        self._forget_held()
        if self._closing:
            self.shutdown()
        elif not self.flow.write_paused or self._in_head or self._in_body:
            self.flow.resume_reading()

    def _take(self, data: bytes, at: int) -> None:
        """Parse what has come from ``at`` on, up to the end of one request, and hold the rest."""
        raise NotImplementedError

    def _is_idle(self) -> bool:
        """Say whether no answer is being made: nothing has come, or the last answer is complete."""
        return self.cycle is None or self.cycle.response_complete

    def is_new(self, since_s: float) -> bool:
        """Say whether the connection was made since then, on the loop's clock, and nothing has come on it yet."""
        if self.cycle is not None or self._in_head or self._in_body:
            return False
        return self._made_s >= since_s and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        if not self._held:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.loop.call_soon(self._go_on)

    # What waits to be read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress(self.transport.flushed_bytes)

    def resume_writing(self) -> None:
        if self.transport.write_rest():
            super().resume_writing()
            self._stop_watching()
            self.loop.call_soon(self._written)

    def _written(self) -> None:
        """Nothing waits here to be sent any more."""
        if self._ending:
            self._linger()
        elif self._held:
            self._go_on()
        elif self._is_idle() and not self._in_head:
            self._rest()

    def _rest(self) -> None:
        """Begin to wait for the next request."""
        if not self.transport.is_closing() and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        self._close_unused()

    def _close_unused(self) -> None:
        """Close a connection without a request, once its client has taken the last answer."""
        if self.transport.is_closing() or self.flow.write_paused or self._unread is not None:
            return  # after that the idle time starts again
        if self.transport.unread_bytes():
            self._expect_progress(0)
        else:
            self._close_now()

    def _expect_progress(self, held_bytes: int) -> None:
        """Watch whether the client takes what waits for it, ``held_bytes`` of it in this process."""
        if self._unread is not None or self.transport.get_extra_info("socket") is None:
            return
        self._stop_watching()
        self._taken_bytes, _ = self.transport.moved_bytes()
        answer_budget = self.rules.answer_budget
        self._unread = answer_budget.begin(held_bytes, self.loop.time(), self._abort)
        self._watch = self.loop.call_later(answer_budget.look_s, self._look)

    def _abort(self) -> None:
        self.loop.call_soon(self.transport.abort)

    def _look(self) -> None:
        """See whether the client has taken something."""
        self._watch = None
        unread = self._unread
        if unread is None:
            return
        if not self.flow.write_paused and not self.transport.unread_bytes():
            self._stop_watching()
            self._written()
            return
        taken_bytes, _ = self.transport.moved_bytes()
        unread.progress(taken_bytes - self._taken_bytes, self.loop.time())
        self._taken_bytes = taken_bytes
        self._watch = self.loop.call_later(self.rules.answer_budget.look_s, self._look)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._unread is not None:
            self._unread.end()
            self._unread = None

    # The end

    def _end(self) -> None:
        """The last answer has been written: see to it that the client gets it, and close."""
        if self.cycle is not None:  # for the application the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._ending = True
        self._end_s = self.loop.time() + LINGER_S
        self._unset_keepalive_if_required()
        self._forget_held()
        self.flow.is_held = False
        self.flow.resume_reading()
        if not self.flow.write_paused:
            self._linger()

    def _linger(self) -> None:
        """All is sent: say so, and drop what comes until the client has closed."""
        if self.transport.is_tls:  # to close is to say so in TLS, and what comes then is dropped there
            self.transport.close_now()
        else:
            self.transport.write_eof()
        self._watch_the_end()

    def _close_now(self) -> None:
        """Close a connection without a request in progress."""
        self.transport.close_now()
        if self.transport.is_tls:  # it waits for the client to say that it closes, too
            self._end_s = self.loop.time()
            self._watch_the_end()

    def _watch_the_end(self) -> None:
        if self._watch is None:
            _, self._sent_bytes = self.transport.moved_bytes()
            quiet_s = STOPPING_LINGER_S if self._is_stopping else LINGER_QUIET_S
            self._watch = self.loop.call_later(quiet_s, self._look_at_the_end)

    def _look_at_the_end(self) -> None:
        """See whether the client has still sent something, or has still something to take."""
        self._watch = None
        _, sent_bytes = self.transport.moved_bytes()
        is_quiet = sent_bytes == self._sent_bytes
        self._ended_bytes += sent_bytes - self._sent_bytes
        if self._is_stopping:
            self.transport.abort()
        elif is_quiet and self.transport.unread_bytes():
            self._expect_progress(0)
        elif is_quiet or self._ended_bytes > LINGER_BYTES or self.loop.time() >= self._end_s:
            self.transport.abort()
        else:
            self._watch_the_end()

    def _drop(self, data: bytes) -> None:
        """What comes after the last answer is read and thrown away."""
        self._dropped_bytes += len(data)
        if self._dropped_bytes > LINGER_BYTES:
            self.transport.abort()

    def drain(self) -> None:
        """The process is to stop: from now on each answer is the last on this connection."""
        self._closing = True
        if self.cycle is not None and not self.cycle.response_complete and not self._held:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close after the answers that are being made or are still to be made, or at once when there are none."""
        self._closing = self._is_stopping = True
        if self._ending:
            if self._unread is None and not self.flow.write_paused:
                self._stop_watching()
                self._watch_the_end()
        elif self._held:
            return
        elif not self._is_idle():
            self.cycle.keep_alive = False
        elif self.flow.write_paused or self._in_head or self._in_body:
            self.transport.close()
        else:
            self._close_now()

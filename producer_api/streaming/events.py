"""An answer that is sent while it is being made, as server-sent events. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Final, Protocol

from msgspec import Struct

from producer_api.stream_metrics import StreamMeter
from shared.wire.frames import Frame
from shared.wire.messages import Reply
from shared.wire.outcomes import OVERLOADED, RequestError, malformed

PING_S: Final = 15.0
"""After so long without an event a comment is sent: proxies end connections on which nothing happens."""

OPEN_S: Final = 5.0
"""The status 200 is sent with the first frame, or so long after the request has been admitted: what a consumer refuses
at once still gets a status of its own."""

PING: Final = b": ping\n"
"""Without an empty line behind it: OpenAI's Python client takes that for an event, and finds no data in it."""

MOST_BUFFERED_BYTES: Final = 1024 * 1024
"""Of events that the client has not taken yet; more, and its answer ends."""


class EventWriter(Protocol):
    """Encodes one answer in a dialect. Its methods are called in this order: ``begin``, ``part``…, ``end``."""

    def begin(self) -> bytes:
        """Return the events before the first part."""

    def part(self, frame: Frame) -> bytes:
        """Return the events of a part of the answer."""

    def end(self, reply: Reply) -> bytes:
        """Return what the parts lack of the whole answer, and the events of its end."""

    def error(self, error: RequestError) -> bytes:
        """Return the event of an error after which nothing follows."""


class Streaming(Struct, frozen=True):
    """What a client wants that reads its answer as events.

    Attributes:
        after: number of the last frame that it has, None if it has nothing yet.
        sent: characters that it has.
    """

    writer: EventWriter
    after: int | None = None
    sent: int = 0


class EventStream:
    """One answer on its way; see :class:`producer_api.queue.interface.Parts`.

    Args:
        opened: called once, when the first bytes can be sent.
        broken: called once if it cannot go on: the client reads too slowly, or has never had what it says it has.
        meter: told when parts go to the client.

    Attributes:
        next_seq: see the interface.
        is_open: the response has begun: from now on an error is an event.
        has_ended: no more events come than those that wait.
    """

    def __init__(
        self,
        streaming: Streaming,
        opened: Callable[[EventStream], None],
        broken: Callable[[RequestError], None],
        meter: StreamMeter,
    ) -> None:
        self._writer, self._opened, self._broken = streaming.writer, opened, broken
        self._meter, self._has_parts = meter, False
        if streaming.after is not None:
            meter.goes_on(perf_counter())
        self.is_open = self.has_ended = False
        self._buffer, self._size_bytes = list[bytes](), 0
        self._reader: asyncio.Future[None] | None = None
        # Frames that the client has are looked at again: only they say whether it is right about them.
        self.next_seq = self._seen = 0
        self._lacks_from, self._sent = (0 if streaming.after is None else streaming.after + 1), streaming.sent

    def admitted(self, *, joined: bool) -> None:
        """See the interface."""
        if not self.is_open:
            asyncio.get_running_loop().call_later(OPEN_S, self._open)

    def frame(self, frame: Frame) -> None:
        """See the interface."""
        if self.has_ended:
            return
        if frame.seq < self._lacks_from:
            self._look_again(frame)
            return
        self._open()
        if part := self._writer.part(frame):
            self._has_parts = True
            self._put(part)
        if self._size_bytes > MOST_BUFFERED_BYTES:
            message = f"{MOST_BUFFERED_BYTES} bytes of the answer wait for the client, which reads too slowly."
            self._break(RequestError(OVERLOADED, message))

    def end(self, reply: Reply) -> None:
        """Send what is missing of the whole answer, and end.

        Raises:
            RequestError: ``MALFORMED``: the answer never had the event that the client names.
        """
        if self.next_seq < self._lacks_from and not _has(reply, self._lacks_from, self._sent):
            raise _never_had()
        self._open()
        self._has_parts = self._has_parts or not self._meter.has_begun  # all of it comes now
        self._put(self._writer.end(reply))
        self.has_ended = True

    def fail(self, error: RequestError) -> None:
        """End with an error; only once the stream is open."""
        if not self.has_ended:
            self.has_ended = True
            self._put(self._writer.error(error))

    def _look_again(self, frame: Frame) -> None:
        """Take a frame that the client has; after the last of them their texts together are what it has."""
        self._seen += len(frame.text)
        if frame.seq == self._lacks_from - 1 and self._seen != self._sent:
            self._break(_never_had())

    def _break(self, error: RequestError) -> None:
        if self.is_open:
            self._put(self._writer.error(error))
        self.has_ended = True
        self._broken(error)

    def _open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self._put(self._writer.begin())
            self._opened(self)

    def _put(self, events: bytes) -> None:
        self._buffer.append(events)
        self._size_bytes += len(events)
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    async def events(self, ping_s: float = PING_S) -> AsyncIterator[bytes]:
        """Go through the events, all that wait at a time, as fast as they are taken."""
        loop = asyncio.get_running_loop()
        silence = _Silence(loop, ping_s, lambda: self._put(PING))
        try:
            while True:
                if not self._buffer:
                    self._reader = loop.create_future()
                    await self._reader
                is_last = self.has_ended
                events, self._buffer, self._size_bytes = b"".join(self._buffer), [], 0
                silence.broken_s = loop.time()
                if events:
                    if self._has_parts:
                        self._has_parts = False
                        self._meter.wrote(perf_counter())
                    yield events
                if is_last:
                    return
        finally:
            silence.timer.cancel()


class _Silence:
    """Says when nothing has been sent for a while, with one timer for many events: each would take one of its own.

    Attributes:
        broken_s: when something was sent last, by the loop's clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float, over: Callable[[], None]) -> None:
        self._loop, self._limit_s, self._over = loop, limit_s, over
        self.broken_s = loop.time()
        self.timer = loop.call_later(limit_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        left_s = self.broken_s + self._limit_s - now_s
        if left_s <= 0:
            self.broken_s, left_s = now_s, self._limit_s
            self._over()
        self.timer = self._loop.call_later(left_s, self._look)


def _has(reply: Reply, frames: int, characters: int) -> bool:
    """Say whether an answer has so many frames and characters."""
    generated = reply.generated
    if generated is None or not generated.choices:
        return True  # whoever encodes it says what is wrong
    return frames <= max(1, generated.frames) and characters <= len(generated.choices[0].text)


def _never_had() -> RequestError:
    return malformed("Last-Event-ID is not the id of an event of this answer.", "Last-Event-ID")

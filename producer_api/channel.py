"""One model's lane as a front end sees it: a waiter is registered, the request admitted, the reply awaited."""

from __future__ import annotations

import asyncio

from shared import keys
from shared.outcomes import SHUTTING_DOWN
from shared.redis import AsyncClient, Link
from shared.settings import Settings
from shared.wire import Request, encode_request

from .admitter import Admitter, Instruments, Pending
from .reply_reader import ReplyReader
from .waiters import Waiters


class Channel:
    """Joins the admitter and the reply reader of one lane; made on the event loop that uses it.

    Args:
        instance: name of this process; its replies go to the reply stream of that name.
    """

    def __init__(
        self, client: AsyncClient, settings: Settings, model: str, instance: str, instruments: Instruments
    ) -> None:
        self._instance, self._instruments = instance, instruments
        self._waiters = Waiters(asyncio.get_running_loop())
        self._replies = ReplyReader(
            client,
            self._waiters,
            model,
            keys.DEFAULT_LANE,
            instance,
            settings.block_ms,
            on_cursor=self._note_cursor,
            on_error=self._note_error,
        )
        self._admitter = Admitter(
            Link(client), model, keys.DEFAULT_LANE, instance, settings.lane_limit, instruments, self._replies.look
        )

    def start(self) -> None:
        """Begin reading replies."""
        self._replies.start()

    async def close(self) -> None:
        """Stop; whoever still waits is told that the front end shuts down."""
        await self._replies.close()
        await self._admitter.close()
        for waiter in self._waiters.all():
            waiter.fail(SHUTTING_DOWN, "The front end is shutting down; ask again with the same id.")

    async def submit(self, request: Request, *, id_is_ours: bool) -> bytes:
        """Put a request into the lane and wait for its encoded reply; see :meth:`producer_api.queue.Queue.submit`."""
        waiter = self._waiters.add(request.id, request.ttl_ms / 1000)
        self._admitter.put(Pending(waiter, encode_request(request, self._instance), id_is_ours))
        try:
            reply = await waiter.future
        finally:
            self._waiters.remove(waiter)
        if id_is_ours:
            self._admitter.acknowledge(request.id)
        return reply

    def _note_cursor(self, cursor: bytes) -> None:
        self._admitter.cursor = cursor

    def _note_error(self) -> None:
        # The server has probably closed the admitting connection, too; noticed here, it costs no request.
        self._instruments.redis_errors.inc()
        self._admitter.connection_is_suspect = True

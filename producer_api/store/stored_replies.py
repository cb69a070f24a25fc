"""Replies that lie in the result store: from the reference in Redis to the whole reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.results.references import parse_reply
from shared.results.store import StoreError, StoreMissing, StoreTooLarge
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, WireError
from shared.wire.outcomes import INTERNAL, OVERLOADED, RESULT_GONE, STORE_UNAVAILABLE, RequestError

from .aside import StoreAside

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5


class StoredReplies:
    """Reads whole replies.

    Args:
        store: None for a front end without one.
        most_bytes: what the replies that are being read may take together; a larger one is read alone.
    """

    def __init__(self, store: StoreAside | None, most_bytes: int) -> None:
        self._store, self._most_bytes, self._used_bytes = store, most_bytes, 0

    async def whole(self, model: str, lane: str, reply: Reply) -> Reply:
        """Return the reply that ``reply`` refers to; itself if it refers to none.

        Raises:
            RequestError: ``RESULT_GONE``, ``STORE_UNAVAILABLE``, ``OVERLOADED``, ``INTERNAL``.
        """
        if reply.at_store is None:
            return reply
        place = parse_reply(reply.at_store)
        if place is None:
            log.error("A reply refers to %r, which is no place in the result store.", reply.at_store[:200])
            raise RequestError(INTERNAL, "The reply cannot be read.", request_id=reply.id)
        if self._store is None:
            message = "The result lies in a result store, and this front end has none; ask another one."
            raise _away(message, reply.id)
        async with self._room(place.size_bytes, reply.id):
            try:
                return await self._store.run(
                    lambda store: decode_reply(store.get(place.key(model, lane), place.size_bytes))
                )
            except StoreMissing:
                message = "The result is not in the result store any more."
                raise RequestError(RESULT_GONE, message, request_id=reply.id) from None
            except (StoreTooLarge, WireError) as error:
                log.error("The stored reply to request %s cannot be read: %s", reply.id, error)
                raise RequestError(INTERNAL, "The reply cannot be read.", request_id=reply.id) from None
            except StoreError as error:
                log.warning("Reading the result of request %s failed: %s", reply.id, error)
                raise _away("The result store does not answer; ask again.", reply.id) from None

    @asynccontextmanager
    async def _room(self, size_bytes: int, request_id: str) -> AsyncIterator[None]:
        if self._used_bytes and self._used_bytes + size_bytes > self._most_bytes:
            message = "Too many large results are being read here; ask again."
            raise RequestError(OVERLOADED, message, request_id=request_id, retry_after_s=1)
        self._used_bytes += size_bytes
        try:
            yield
        finally:
            self._used_bytes -= size_bytes


def _away(message: str, request_id: str) -> RequestError:
    return RequestError(STORE_UNAVAILABLE, message, request_id=request_id, retry_after_s=RETRY_AFTER_S)


def told(task: asyncio.Task[None]) -> None:
    """Log what a task met that nobody waits for."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Reading a stored reply failed.", exc_info=error)

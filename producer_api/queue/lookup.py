"""Finds and cancels requests by id [I/O]."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import AsyncClient, Link, RedisError, ServerError
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, WireError
from shared.wire.outcomes import INTERNAL, QUEUE_UNAVAILABLE, RequestError

from .admission import refusal
from .interface import Standing

log = logging.getLogger(__name__)


class Lookup:
    """What ``hr1_ask`` and ``hr1_cancel`` say, on a connection that is opened when it is first needed.

    Args:
        timeout_s: what one question may take, waiting for those before it included.
    """

    def __init__(self, client: AsyncClient, timeout_s: float) -> None:
        self._link, self._one_at_a_time, self._timeout_s = Link(client), asyncio.Lock(), timeout_s
        # A client that reads many large answers delays only its own lane: of each lane, one waits for the connection.
        self._of_lane: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find(self, model: str, lane: str, request_id: str) -> Reply | Standing:
        """Return the stored reply, or how the request stands.

        Raises:
            RequestError: ``QUEUE_UNAVAILABLE``, ``INTERNAL``.
        """
        look = ("LINDEX", keys.reply(model, lane, request_id), 0)
        # In this order: what has no reply yet when it is looked for stands as it did a moment before.
        statuses, message = await self._call(lane, request_id, functions.ask(keys.work(model, lane), request_id), look)
        if message is None:
            standing = _standing(statuses[0], request_id)
            return Standing.UNKNOWN if standing is Standing.ANSWERED else standing  # taken or expired in between
        try:
            return decode_reply(message)
        except WireError as error:
            log.error("A consumer's reply cannot be read: %r", error)
            raise RequestError(INTERNAL, "The reply cannot be read.", request_id=request_id) from None

    async def cancel(self, model: str, lane: str, request_id: str) -> Standing:
        """Take a request back; returns how it stood.

        Raises:
            RequestError: ``QUEUE_UNAVAILABLE``.
        """
        cancel = functions.cancel(keys.work(model, lane), ((request_id, ""),), tell=True)
        (statuses,) = await self._call(lane, request_id, cancel)
        return _standing(statuses[0], request_id)

    def connect_anew(self) -> None:
        """Reopen the connection before its next use."""
        self._link.renew()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def _call(self, lane: str, request_id: str, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, the first of which calls a function; loads the functions where they are missing."""
        is_asked = False
        try:
            async with asyncio.timeout(self._timeout_s), self._of_lane[lane], self._one_at_a_time:
                is_asked = True
                answers = await library.call_many(self._link, *commands)
            for answer in answers:
                if isinstance(answer, ServerError):
                    raise answer
        except (RedisError, OSError) as error:  # TimeoutError is an OSError, and says nothing
            if is_asked:  # those that waited behind it say nothing new
                log.warning("%s failed: %s", commands[0][1], told(error) if str(error) else "no answer in time")
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.", request_id) from None
        return answers


def _standing(status: bytes, request_id: str) -> Standing:
    if status.startswith(b"error"):
        log.error("Redis refused to look for a request: %s", status.decode(errors="replace"))
        raise RequestError(INTERNAL, "Looking for the request failed; the log says why.", request_id=request_id)
    return Standing(status.decode())

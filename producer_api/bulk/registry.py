"""The records of batches in Redis [I/O]."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from producer_api.parsing.bulk_schemas import State
from producer_api.queue.admission import refusal
from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import AsyncClient, Link, OutOfMemory, RedisError, ServerError
from shared.wire.outcomes import (
    QUEUE_OUT_OF_MEMORY,
    QUEUE_UNAVAILABLE,
    TOO_MANY_BATCHES,
    UNKNOWN_BATCH,
    WEBHOOKS_FULL,
    RequestError,
)

from .parts import PartDamaged, PartEntry
from .record import Fields, Record, record_of

log = logging.getLogger(__name__)

MOST_PER_LANE = 1000
"""Batches of a lane, ended ones included until their time is over."""

MOST_LISTED = 100

HURRY_MS = 3_600_000
"""How long the key of lanes in a hurry stays after the last."""


class Claim(NamedTuple):
    """A batch to look after."""

    model: str
    lane: str
    id: str
    epoch: str


class LeaseLost(Exception):
    """Another front end drives the batch now, or its record is gone."""


class Registry:
    """What Redis knows of batches, on a connection of its own."""

    def __init__(self, client: AsyncClient, timeout_s: float) -> None:
        self._link, self._one_at_a_time, self._timeout_s = Link(client), asyncio.Lock(), timeout_s

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, and load the functions where they are missing.

        Raises:
            RedisError, OSError: no answer in time, or an error as an answer.
        """
        async with asyncio.timeout(self._timeout_s), self._one_at_a_time:
            answers = await library.call_many(self._link, *commands)
        for answer in answers:
            if isinstance(answer, ServerError):
                raise answer
        return answers

    async def _asked(self, *commands: Sequence[Any]) -> list[Any]:
        """As :meth:`call`, for a client that waits."""
        try:
            return await self.call(*commands)
        except OutOfMemory:
            raise refusal(QUEUE_OUT_OF_MEMORY, "The queue is out of memory.") from None
        except (RedisError, OSError) as error:
            log.warning("Asking Redis for a batch failed: %s", told(error) if str(error) else "no answer in time")
            raise refusal(QUEUE_UNAVAILABLE, "Redis did not answer in time; ask again.") from None

    async def open(self, model: str, lane: str, batch_id: str, lease_ms: int, fields: Fields) -> None:
        """Make the record of a batch.

        Raises:
            RequestError: ``TOO_MANY_BATCHES``, ``WEBHOOKS_FULL``, ``QUEUE_UNAVAILABLE``, ``QUEUE_OUT_OF_MEMORY``.
        """
        work = keys.work(model, lane)
        command = functions.bulk_open(work, batch_id, MOST_PER_LANE, lease_ms, {"state": State.RECEIVING, **fields})
        (status,) = await self._asked(command)
        if status == b"full":
            message = f"There are {MOST_PER_LANE} batches already; the oldest goes when its time is over."
            raise refusal(TOO_MANY_BATCHES, message)
        if status == b"hooks":
            raise refusal(WEBHOOKS_FULL, "Too many webhooks of your lane are still to be delivered.")
        if status != b"opened":
            raise refusal(QUEUE_UNAVAILABLE, "The batch could not be opened; try again.")

    async def save(self, claim: Claim, attend_ms: int, fields: Fields, part: str = "") -> State:
        """Note what was done, and keep the lease; returns how the batch stands.

        Raises:
            LeaseLost: somebody else looks after it.
            RedisError, OSError: whether it was noted is unknown.
        """
        work = keys.work(claim.model, claim.lane)
        (status,) = await self.call(functions.bulk_save(work, claim.id, claim.epoch, attend_ms, part, fields))
        state = status.decode() if isinstance(status, bytes) else ""
        if state not in State._value2member_map_:
            raise LeaseLost(claim.id)
        return State(state)

    async def claim(self, model: str, lease_ms: int) -> Claim | None:
        """Take a batch of a model that somebody has to look after."""
        (found,) = await self.call(functions.bulk_claim(keys.work(model, keys.DEFAULT_LANE), lease_ms))
        return Claim(model, *(text.decode() for text in found)) if found else None

    async def forget(self, claim: Claim) -> None:
        """Delete a record."""
        await self.call(functions.bulk_forget(keys.work(claim.model, claim.lane), claim.id, claim.epoch))

    async def read(self, model: str, lane: str, batch_id: str) -> Record | None:
        """Return a record, None where there is none."""
        (flat,) = await self.call(("HGETALL", keys.bulk_record(model, lane, batch_id)))
        return record_of(model, lane, batch_id, flat) if flat else None

    async def parts(self, model: str, lane: str, batch_id: str) -> list[PartEntry]:
        """Return the parts of a batch's results, in the order in which they were stored.

        Raises:
            PartDamaged: the list cannot be read.
        """
        (found,) = await self.call(("LRANGE", keys.bulk_parts(model, lane, batch_id), 0, -1))
        return [PartEntry.of(text.decode("ascii", "replace")) for text in found]

    async def find(self, model: str, lanes: Sequence[str], batch_id: str) -> tuple[Record, float]:
        """Return a record for its owner, and Redis's time in ms.

        Args:
            lanes: that it may be in.

        Raises:
            RequestError: ``UNKNOWN_BATCH``, ``QUEUE_UNAVAILABLE``.
        """
        looks = [("HGETALL", keys.bulk_record(model, lane, batch_id)) for lane in lanes]
        clock, *flats = await self._asked(("TIME",), *looks)
        for lane, flat in zip(lanes, flats, strict=True):
            record = record_of(model, lane, batch_id, flat) if flat else None
            if record is not None:
                return record, _ms(clock)
        raise unknown()

    async def now_ms(self) -> float:
        """Return Redis's time in ms."""
        return _ms((await self.call(("TIME",)))[0])

    async def hurry(self, model: str, lane: str, for_ms: int) -> None:
        """Have nothing in a batch lane wait for gaps for so long from now on."""
        name, until_ms = keys.hurried(model), int(await self.now_ms()) + for_ms
        await self.call(("ZADD", name, until_ms, lane), ("PEXPIRE", name, HURRY_MS))

    async def find_parts(self, record: Record) -> list[PartEntry]:
        """As :meth:`parts`, for a client that waits."""
        (found,) = await self._asked(("LRANGE", keys.bulk_parts(record.model, record.lane, record.id), 0, -1))
        try:
            return [PartEntry.of(text.decode("ascii", "replace")) for text in found]
        except PartDamaged as error:
            log.error("The results of batch %s cannot be read: %s", record.id, error)
            raise refusal(QUEUE_UNAVAILABLE, "The batch's results cannot be read; the log says why.") from None

    async def list(self, model: str, lanes: Sequence[str]) -> tuple[list[Record], float]:
        """Return the latest batches of some lanes, and Redis's time in ms."""
        looks = [("ZREVRANGE", keys.bulk_list(model, lane), 0, MOST_LISTED - 1, "WITHSCORES") for lane in lanes]
        clock, *listed = await self._asked(("TIME",), *looks)
        places = [
            (float(score), lane, name.decode())
            for lane, pairs in zip(lanes, listed, strict=True)
            for name, score in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        places = sorted(places, reverse=True)[:MOST_LISTED]
        records_of = [("HGETALL", keys.bulk_record(model, lane, name)) for _, lane, name in places]
        found = await self._asked(*records_of) if records_of else []
        pairs = zip(places, found, strict=True)
        records = (record_of(model, lane, name, flat) for (_, lane, name), flat in pairs if flat)
        return [record for record in records if record is not None], _ms(clock)

    async def cancel(self, model: str, lane: str, batch_id: str) -> str:
        """Have a batch run nothing more; returns how it stood.

        Raises:
            RequestError: ``UNKNOWN_BATCH``, ``QUEUE_UNAVAILABLE``.
        """
        (status,) = await self._asked(functions.bulk_cancel(keys.work(model, lane), batch_id))
        if status == b"unknown":
            raise unknown()
        return str(status.decode())

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


def unknown() -> RequestError:
    """Make the error for a batch that is not there, or is another tenant's."""
    return RequestError(UNKNOWN_BATCH, "There is no batch with this id; its time may be over.")


def _ms(clock: Sequence[bytes]) -> float:
    return int(clock[0]) * 1000 + int(clock[1]) / 1000

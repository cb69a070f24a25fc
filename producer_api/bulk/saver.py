"""Stores the answers of one batch in parts, says so in its record, and keeps its lease [I/O]."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from producer_api.parsing.bulk_schemas import State
from shared.redis.advice import told
from shared.redis.client import RedisError
from shared.results.store import StoreError

from . import parts
from .parts import PartEntry
from .receiving import SPARE_S
from .record import LONGEST_RUN_MS, Fields, Record
from .registry import Claim, LeaseLost, Registry
from .store_room import StoreRoom, results_folder

log = logging.getLogger(__name__)

RETRY_S = 0.25
MOST_RETRY_S = 5.0


class Saver:
    """What one driver of a batch writes.

    Args:
        lease_ms: how long nothing need be heard of this driver until another one goes on.

    Attributes:
        state: of the batch, as last heard.
        reason: what it waits for, shown to its owner; empty for nothing.
        done: items whose answers are stored.
    """

    def __init__(self, room: StoreRoom, registry: Registry, claim: Claim, record: Record, lease_ms: int) -> None:
        self._room, self._registry, self._claim, self._lease_ms = room, registry, claim, lease_ms
        self._folder = results_folder(claim.model, claim.lane, claim.id)
        self._keep_s = (LONGEST_RUN_MS + record.keep_ms) / 1000 + SPARE_S
        self._keep_ms = record.keep_ms
        self._number = 0
        self._failed = record.failed
        self.done, self.state, self.reason = 0, record.state, ""

    async def save(self, answers: Sequence[parts.Record], fields: Fields) -> list[int]:
        """Store some answers, none to keep the lease only; returns the numbers of their items.

        A store that is full or away is tried again and again: the batch waits meanwhile, and nothing is lost.

        Raises:
            LeaseLost: another front end drives the batch.
        """
        if not answers:
            await self._note(fields)
            return []
        indexes = [record.number for record in answers]
        key = f"{self._number:06d}-{self._claim.epoch}"
        self._number += 1
        data = parts.encode(answers)
        await self._put(key, data)
        self.done += len(answers)
        self._failed += sum(record.has_error for record in answers)
        await self._note({**fields, "done": self.done, "failed": self._failed}, PartEntry(key, len(data), indexes))
        return indexes

    async def _put(self, key: str, data: bytes) -> None:
        pause_s = RETRY_S
        while True:
            try:
                await self._room.put(f"{self._folder}/{key}", data, self._keep_s)
            except StoreError as error:
                if not self.reason:
                    log.warning("Batch %s waits for the result store: %s", self._claim.id, error)
                self.reason = str(error)
                await self._note({})
                await asyncio.sleep(pause_s)
                pause_s = min(MOST_RETRY_S, 2 * pause_s)
            else:
                self.reason = ""
                return

    async def _note(self, fields: Fields, part: PartEntry | None = None, attend_ms: int | None = None) -> None:
        """Save, again and again while Redis does not answer. A part is never listed twice."""
        text, given = "" if part is None else part.text(), {"reason": self.reason, **fields}
        while True:
            try:
                lease_ms = self._lease_ms if attend_ms is None else attend_ms
                self.state = await self._registry.save(self._claim, lease_ms, given, text)
                return
            except (RedisError, OSError) as error:
                log.debug("The record of batch %s cannot be written: %s", self._claim.id, told(error))
                await asyncio.sleep(RETRY_S)
            if part is not None and await self._is_listed(part):
                text = ""

    async def _is_listed(self, part: PartEntry) -> bool:
        while True:
            try:
                claim = self._claim
                return any(one.key == part.key for one in await self._registry.parts(claim.model, claim.lane, claim.id))
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_S)

    async def end(self, state: State, reason: str = "") -> None:
        """Note how the batch ended; from now on its time runs.

        Raises:
            LeaseLost: another front end drives the batch.
        """
        self.reason = reason
        await self._note({"state": state, "in_flight": 0, "rate": 0}, attend_ms=self._keep_ms)

    async def release(self) -> None:
        """Let another front end go on at once."""
        try:
            await self._registry.save(self._claim, 0, {})
        except (RedisError, OSError, LeaseLost) as error:
            log.debug("Batch %s could not be handed over: %s", self._claim.id, error)

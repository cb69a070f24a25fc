"""An upload on its way into the result store: cut into items, checked, stored in parts as it comes [I/O]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

from producer_api.parsing.bulk_schemas import State
from producer_api.queue.admission import refusal
from shared.redis.client import RedisError
from shared.results.store import StoreError, StoreFull
from shared.wire.outcomes import BODY_TOO_LARGE, OVERLOADED, STORE_FULL, STORE_UNAVAILABLE, RequestError, invalid

from . import parts
from .parts import Record
from .preparing import Preparing
from .readers.items import Item, Reader
from .record import LONGEST_RUN_MS, Fields
from .registry import Claim, LeaseLost, Registry
from .store_room import StoreRoom, items_folder

PART_ITEMS = 2048
PART_BYTES = 4 * 1024 * 1024

STEP_S = 0.001
"""After so long others have their turn on the event loop."""

SPARE_S = 86_400
"""Objects outlive by this what they are for; a batch deletes its own."""


class Receiving:
    """One upload.

    Args:
        most_items, most_bytes: of the batch.
        lease_ms: how long nothing need be heard of the upload until others clean up after it.
    """

    def __init__(
        self,
        room: StoreRoom,
        registry: Registry,
        claim: Claim,
        preparing: Preparing,
        most_items: int,
        most_bytes: int,
        lease_ms: int,
    ) -> None:
        self._room, self._registry, self._claim, self._preparing = room, registry, claim, preparing
        self._most_items, self._most_bytes, self._lease_ms = most_items, most_bytes, lease_ms
        self._folder = items_folder(claim.model, claim.lane, claim.id)
        self._part: list[Record] = []
        self._part_bytes = 0
        self._pausing_s = perf_counter()
        self._renewed_s = perf_counter()
        self.total = self.received_bytes = 0

    async def receive(self, chunks: AsyncIterator[bytes], reader: Reader) -> None:
        """Read the whole upload, and note that the batch may run.

        Raises:
            RequestError: the upload is refused as a whole.
        """
        try:
            async for chunk in chunks:
                self.received_bytes += len(chunk)
                if self.received_bytes > self._most_bytes:
                    message = f"An upload has at most {self._most_bytes} bytes; send several batches."
                    raise RequestError(BODY_TOO_LARGE, message, field="body")
                for item in reader.feed(chunk):
                    await self._take(item)
                await self._breathe()
            for item in reader.close():
                await self._take(item)
            if not self.total:
                raise invalid("The upload holds no items.", "body")
            await self._store()
            fields: Fields = {"state": State.QUEUED, "total": self.total, "bytes": self.received_bytes}
            await self._registry.save(self._claim, 0, fields)
        except StoreFull as error:
            raise refusal(STORE_FULL, str(error)) from None
        except StoreError as error:
            raise refusal(STORE_UNAVAILABLE, str(error)) from None
        except LeaseLost:
            raise refusal(OVERLOADED, "The upload took so long between two parts that it was given up.") from None
        except (RedisError, OSError):
            raise refusal(OVERLOADED, "Redis did not answer while the upload came in; send it again.") from None

    async def _take(self, item: Item) -> None:
        if self.total == self._most_items:
            message = f"A batch has at most {self._most_items} items; send several."
            raise RequestError(BODY_TOO_LARGE, message, field="body")
        record = await self._preparing.record(self.total, item)
        self.total += 1
        self._part.append(record)
        self._part_bytes += len(record.payload) + len(record.name)
        if len(self._part) == PART_ITEMS or self._part_bytes >= PART_BYTES:
            await self._store()
        if perf_counter() - self._pausing_s > STEP_S:
            await self._breathe()

    async def _breathe(self) -> None:
        await asyncio.sleep(0)
        self._pausing_s = perf_counter()
        if self._pausing_s - self._renewed_s > self._lease_ms / 3000:
            await self._renew()

    async def _renew(self) -> None:
        self._renewed_s = perf_counter()
        fields = {"total": self.total, "bytes": self.received_bytes}
        await self._registry.save(self._claim, self._lease_ms, fields)

    async def _store(self) -> None:
        if self._part:
            part, self._part, self._part_bytes = self._part, [], 0
            key = f"{self._folder}/{part[0].number:06d}"
            await self._room.put(key, parts.encode(part), LONGEST_RUN_MS / 1000 + SPARE_S)
        await self._renew()

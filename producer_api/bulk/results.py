"""The results of a batch as JSON Lines, from its parts in the store [I/O]."""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from time import perf_counter
from typing import Any, Final

from producer_api.inference.codec import Response
from producer_api.inference.encoding import size_of
from producer_api.inference.errors import from_fault
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import StepRunner
from shared.wire.fast import decode_reply
from shared.wire.messages import Fault, Reply, WireError
from shared.wire.outcomes import INTERNAL, OVERLOADED, RequestError

from . import parts
from .dialect import Dialect
from .parts import PartEntry, Record
from .store_room import StoreRoom

CHUNK_BYTES: Final = 64 * 1024
STEP_S: Final = 0.001
MOST_READERS: Final = 32
MOST_HELD: Final = 4
"""Parts that are held while results are sent in the order of the items: neighbours are answered at about one time."""


class Order(StrEnum):
    """How results follow one another: as the items came in, or as they were answered."""

    INPUT = "input"
    COMPLETION = "completion"


class Readers:
    """Clients that read results now; each makes the front end hold some parts.

    Attributes:
        count: how many there are.
        turn: held by the one that encodes: however many read, each turn of the event loop makes a few lines only.
    """

    def __init__(self) -> None:
        self.count, self.turn = 0, asyncio.Lock()

    def check(self) -> None:
        """Refuse one more if there are too many.

        Raises:
            RequestError: ``OVERLOADED``.
        """
        if self.count >= MOST_READERS:
            message = f"{self.count} clients are reading results from this front end already."
            raise RequestError(OVERLOADED, message, retry_after_s=1)


class Results:
    """Reads one batch's results.

    Args:
        readers: those of all batches.
        folder: where they lie in the store.
        listed: the parts that are stored.
        total: items of the batch.
        has_ended: no more parts come.
        dialect: that the lines are written in.
    """

    def __init__(
        self,
        room: StoreRoom,
        step_runner: StepRunner,
        readers: Readers,
        folder: str,
        listed: Sequence[PartEntry],
        total: int,
        dialect: Dialect,
        *,
        has_ended: bool,
    ) -> None:
        self._room, self._step_runner, self._readers = room, step_runner, readers
        self._folder, self._listed = folder, listed
        self._total, self._has_ended, self._dialect = total, has_ended, dialect
        self._found_places: array[int] | None = None
        self._held: OrderedDict[int, dict[int, Record]] = OrderedDict()

    @contextmanager
    def being_read(self) -> Iterator[None]:
        """Count a client that reads."""
        self._readers.count += 1
        try:
            yield
        finally:
            self._readers.count -= 1

    def count(self, order: Order) -> int:
        """Return how many lines there are now. In the order of the items they end before the first without a result,
        until the batch has ended."""
        if order is Order.COMPLETION or self._has_ended:
            return sum(len(entry.indexes) for entry in self._listed)
        places = self._places()
        return next((index for index in range(self._total) if places[index] < 0), self._total)

    def _places(self) -> array[int]:
        """Return for each item the part that has its result, -1 for none."""
        if self._found_places is not None:
            return self._found_places
        places = self._found_places = array("i", [-1]) * self._total
        for number, entry in enumerate(self._listed):
            for index in entry.indexes:
                if index < self._total:
                    places[index] = number
        return places

    @property
    def size_bytes(self) -> int:
        """What they take in the store."""
        return sum(entry.size_bytes for entry in self._listed)

    async def chunks(self, order: Order, offset: int, most: int, *, failed: bool | None = None) -> AsyncIterator[bytes]:
        """Go through lines, many at a time.

        Args:
            offset: lines that are left out, counted in this order.
            most: lines at most.
            failed: only of items that ended with an error, or only of the others; None for all.

        Raises:
            StoreError: a part cannot be read now.
            PartDamaged: a part is none.
        """
        lines: list[bytes] = []
        size, since_s = 0, perf_counter()
        records = self._by_completion(offset, most) if order is Order.COMPLETION else self._by_index(offset, most)
        async for record in records:
            if failed is not None and record.has_error != failed:
                continue
            async with self._readers.turn:
                line = await self._line(record)
                if perf_counter() - since_s > STEP_S:
                    await asyncio.sleep(0)
                    since_s = perf_counter()
            lines += (line, b"\n")
            size += len(line)
            if size >= CHUNK_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        if lines:
            yield b"".join(lines)

    async def _by_completion(self, offset: int, most: int) -> AsyncIterator[Record]:
        for entry in self._listed:
            count = len(entry.indexes)
            if offset >= count:
                offset -= count
                continue
            for record in list(await self._read(entry))[offset : offset + most]:
                yield record
            most -= count - offset
            offset = 0
            if most <= 0:
                return

    async def _by_index(self, offset: int, most: int) -> AsyncIterator[Record]:
        places = self._places()
        there = (index for index in range(self._total) if places[index] >= 0)
        wanted: Iterator[int] = there if self._has_ended else iter(range(self.count(Order.INPUT)))
        for number, index in enumerate(wanted):
            if number >= offset + most:
                return
            if number >= offset:
                yield (await self._part(places[index]))[index]

    async def _part(self, number: int) -> dict[int, Record]:
        found = self._held.get(number)
        if found is None:
            found = {record.number: record for record in await self._read(self._listed[number])}
            self._held[number] = found
            if len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(number)
        return found

    async def _read(self, entry: PartEntry) -> Iterator[Record]:
        return parts.decode(await self._room.get(f"{self._folder}/{entry.key}", entry.size_bytes))

    async def _line(self, record: Record) -> bytes:
        dialect = self._dialect
        name, asked = dialect.read_label(record.name)
        try:
            reply = decode_reply(record.payload)
        except WireError:
            fault = Fault(INTERNAL.code, "The reply cannot be read.", None)
            return dialect.refused(record.number, name, from_fault(fault, ""))
        if reply.fault is not None:
            return dialect.refused(record.number, name, from_fault(reply.fault, reply.id))
        try:
            body = await self._answer(reply, asked)
        except RequestError as error:
            return dialect.refused(record.number, name, error)
        return dialect.answered(record.number, reply.id, name, body)

    async def _answer(self, reply: Reply, asked: Any) -> bytes:
        timing = reply.timing
        took_s = (timing.queue + timing.wait + timing.run) / 1e6
        made = self._dialect.codec.encode(reply, JSON, took_s, asked, is_short=False)
        if not isinstance(made, Response):
            made = await self._step_runner.run(made, size_of(reply))
        return made.body

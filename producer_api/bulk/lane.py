"""A batch's way into its lane and back [I/O]: one round trip adds items, acknowledges answers, and waits for more.

The batch waits under a name of its own, whichever front end drives it, so its reply stream stays the same when another
one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from producer_api.load.lane_account import LaneAccount
from shared import keys, limits
from shared.redis import functions, library
from shared.redis.client import AsyncClient, InPieces, Link, OutOfMemory, ServerError
from shared.state.lanes import bytes_from
from shared.wire.messages import sender_of

from .run import Flight, index_of, request_id

MOST_PER_READ = 1000
MOST_PER_CALL = 512
MOST_BYTES_PER_CALL = 4 * 1024 * 1024
MOST_LARGE_BYTES = 4 * 1024 * 1024
"""What is added, or read, at once."""


class Turn(NamedTuple):
    """What came of one round trip.

    Attributes:
        refused: items that the lane did not take.
        replies: numbers of items, and their replies.
        wanted: numbers of items whose reply is to be read from its key.
    """

    refused: list[Flight]
    replies: list[tuple[int, bytes]]
    wanted: list[int]


class BatchLane:
    """One batch's place in its lane."""

    def __init__(self, client: AsyncClient, model: str, lane: str, batch_id: str) -> None:
        self._link, self._looking, self._one_look = Link(client), Link(client), asyncio.Lock()
        self._model, self._lane, self.batch_id, self._prefix = model, lane, batch_id, f"{batch_id}-".encode()
        self._work, self._stream = keys.work(model, lane), keys.reply_stream(model, lane, batch_id)
        self._cursor: bytes = b"0-0"
        self._length = 0
        self.account = LaneAccount()

    async def turn(
        self,
        flights: Sequence[Flight],
        answered: Sequence[int],
        limit: int,
        block_ms: int,
        *,
        message: Callable[[bytes], bytes] = bytes,
    ) -> Turn:
        """Add items, delete the replies of others, and wait for answers.

        Args:
            flights: at most :data:`MOST_PER_CALL`, of about :data:`MOST_BYTES_PER_CALL`.
            answered: numbers of items whose answers are stored, at most :data:`MOST_PER_CALL`.
            limit: length of the lane up to which items are added.
            block_ms: longest wait for answers; 0 for none.
            message: makes of an item's request what is added.

        Raises:
            RedisError: the connection failed; what took effect is unknown.
            OutOfMemory: Redis takes no more.
        """
        small = [one for one in flights if len(one.record.payload) < limits.LUA_LIMIT_BYTES]
        large = [one for one in flights if len(one.record.payload) >= limits.LUA_LIMIT_BYTES]
        refused = await self._without_room(large, limit)
        if refused:
            gone = {one.record.number for one in refused}
            large = [one for one in large if one.record.number not in gone]
        ids = [request_id(self.batch_id, index) for index in answered]
        items = [
            (request_id(self.batch_id, one.record.number), functions.NOT_ASKED_BEFORE, message(one.record.payload))
            for one in small
        ]
        commands: list[Sequence[Any]] = []
        if ids or items:
            commands.append(functions.admit(self._work, limit, self.batch_id, self._cursor, ids, items))
        commands += (
            ("XADD", self._work, "NOMKSTREAM", "*", keys.MESSAGE_FIELD, InPieces((message(one.record.payload),)))
            for one in large
        )
        if block_ms:
            read = ("XREAD", "COUNT", MOST_PER_READ, "BLOCK", block_ms, "STREAMS", self._stream, self._cursor)
            commands.append(read)
        if not commands:
            return Turn(refused, [], [])
        answers = await library.call_many(self._link, *commands)
        hints = answers.pop() if block_ms else None
        if ids or items:
            first = answers.pop(0)
            _check(first)
            self._length = first[0]
            for one, status in zip(small, first[1:], strict=True):
                self._entered(one, status, refused)
        for one, status in zip(large, answers, strict=True):
            self._entered(one, status, refused)
        _check(hints)
        return Turn(refused, *self._taken(hints))

    def _entered(self, flight: Flight, status: Any, refused: list[Flight]) -> None:
        """Note what became of an item that was added."""
        if type(status) is bytes and status[:1].isdigit():
            flight.entry = status
            self._length += 1
            self.account.sent(len(flight.record.payload))
            return
        refused.append(flight)
        if isinstance(status, OutOfMemory):
            raise status

    async def _without_room(self, large: Sequence[Flight], limit: int) -> list[Flight]:
        """Return those of some large items for which the lane has no room: nothing else checks that for them."""
        if not large:
            return []
        size = sum(len(one.record.payload) for one in large)
        if not self.account.surely_takes(size) or self._length + len(large) > limit:
            asked = (functions.lane_bytes(self._work), ("XLEN", self._work))
            found, self._length = await library.call_many(self._link, *asked)
            _check(found)
            self.account.seen(bytes_from(found))
        room = max(0, limit - self._length)
        taken_bytes, refused = 0, list(large[room:])
        for one in large[:room]:
            taken_bytes += len(one.record.payload)
            if not self.account.takes(2 * taken_bytes):  # the other half is for others
                refused.append(one)
        return refused

    def _taken(self, answer: Any) -> tuple[list[tuple[int, bytes]], list[int]]:
        replies: list[tuple[int, bytes]] = []
        wanted: list[int] = []
        for _, hints in answer or ():
            for entry_id, fields in hints:
                self._cursor = entry_id
                name = reply = None
                for at in range(0, len(fields), 2):  # by name: a later version may write more, and in another order
                    if fields[at] == b"id":
                        name = fields[at + 1]
                    elif fields[at] == b"reply":
                        reply = fields[at + 1]
                index = None if name is None else index_of(self._prefix, name)
                if index is None:
                    continue
                if reply is None:
                    wanted.append(index)
                else:
                    replies.append((index, reply))
        return replies, wanted

    async def replies(self, indexes: Sequence[int]) -> list[tuple[int, bytes]]:
        """Read reply keys; returns those that are there."""
        found: list[tuple[int, bytes]] = []
        at, most = 0, 8
        while at < len(indexes):
            some = indexes[at : at + most]
            look = [
                ("LINDEX", keys.reply(self._model, self._lane, request_id(self.batch_id, index)), 0) for index in some
            ]
            async with self._one_look:
                answers = await self._looking.call_many(look)
            size = 0
            for index, reply in zip(some, answers, strict=True):
                if isinstance(reply, bytes):
                    found.append((index, reply))
                    size += len(reply)
            at += len(some)
            most = max(8, most // 2) if size > MOST_BYTES_PER_CALL else min(MOST_PER_CALL, 2 * most)
        return found

    async def entries(self) -> dict[int, bytes]:
        """Look for this batch's items in the lane; returns their entries by number."""
        found: dict[int, bytes] = {}
        at, most = "-", 16
        while True:
            async with self._one_look:
                rows = await self._looking.call("XRANGE", self._work, at, "+", "COUNT", most)
            size = 0
            for entry, fields in rows:
                message = fields[1] if len(fields) > 1 and fields[0] == keys.MESSAGE_FIELD.encode() else b""
                size += len(message)
                name, _ = sender_of(message)
                index = None if name is None else index_of(self._prefix, name.encode())
                if index is not None:
                    found[index] = entry
            if len(rows) < most:
                return found
            at = "(" + rows[-1][0].decode()
            most = max(16, most // 2) if size > MOST_BYTES_PER_CALL else min(256, 2 * most)

    async def are_there(self, flights: Sequence[Flight]) -> list[bool]:
        """Say of items whether their entries are still in the lane."""
        async with self._one_look:
            rows = await self._looking.call_many([("XRANGE", self._work, one.entry, one.entry) for one in flights])
        return [bool(row) and not isinstance(row, ServerError) for row in rows]

    async def cancel(self, entries: Mapping[int, bytes]) -> None:
        """Take items out of the lane, each by its number and entry; without an entry it stays."""
        pairs = [(request_id(self.batch_id, number), entry) for number, entry in entries.items() if entry]
        for at in range(0, len(pairs), MOST_PER_CALL):
            some = pairs[at : at + MOST_PER_CALL]
            await library.call_many(self._link, functions.cancel(self._work, some, tell=False))

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()
        await self._looking.close()


def _check(answer: Any) -> None:
    if isinstance(answer, ServerError):
        raise answer

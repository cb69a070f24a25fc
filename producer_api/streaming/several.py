"""One request of a client as several in the queue, and their replies as one. No I/O of its own.

A list of texts can be longer than what a model takes in one request. In pieces, several consumers share the work, and
others in the lane wait for a piece and not for the list.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from producer_api.queue.interface import Answer, GiveUp, ModelState, Queue
from shared.wire.messages import Fault, Reply, Request, Tensor
from shared.wire.outcomes import RequestError

from .time_left import time_left

AT_ONCE = 8
"""Pieces in the lane at a time: a long list leaves room for others."""

_PLACE = re.compile(r"^((?:inputs|body)(?:\[0\]\.data)?)\[(\d+)\]$")


class Several:
    """The pieces of one request.

    Args:
        pieces: requests with ids of their own.
        sizes: rows of each.
        whole: brings a reply that lies in the result store.
        is_generated: their ids are.
        done: called once with the joined answer, or with the first error; the other pieces are given up then.
    """

    def __init__(
        self,
        queue: Queue,
        state: ModelState,
        lane: str,
        pieces: Sequence[Request],
        sizes: Sequence[int],
        whole: Callable[[Reply], Awaitable[Reply]],
        done: Callable[[Answer | RequestError], None],
        is_generated: bool,
    ) -> None:
        self._queue, self._state, self._lane, self._done = queue, state, lane, done
        self._pieces, self._sizes, self._id_is_generated = pieces, sizes, is_generated
        self._whole, self._begun_s = whole, asyncio.get_running_loop().time()
        self._bringing: set[asyncio.Task[None]] = set()
        self._replies: dict[int, Reply] = {}
        self._under_way: dict[int, GiveUp] = {}
        self._next, self._has_ended = 0, False

    def begin(self) -> GiveUp:
        """Put the first pieces into the lane; returns what gives all of them up.

        Raises:
            RequestError: as ``Queue.begin``; none of them stays there then.
        """
        try:
            self._go_on()
        except BaseException:
            self._give_up()
            raise
        return self._give_up

    def _go_on(self) -> None:
        while self._next < len(self._pieces) and len(self._under_way) < AT_ONCE and not self._has_ended:
            number = self._next
            self._next += 1
            self._under_way[number] = self._queue.begin(
                self._state,
                time_left(self._pieces[number], asyncio.get_running_loop().time() - self._begun_s),
                id_is_generated=self._id_is_generated,
                done=lambda result, number=number: self._came(number, result),  # type: ignore[misc]
                lane=self._lane,
            )

    def _came(self, number: int, result: Answer | RequestError) -> None:
        self._under_way.pop(number, None)
        if self._has_ended:
            return
        if isinstance(result, RequestError):
            self._end(result)
            return
        reply = result.reply
        if reply.fault is not None:
            fault = _moved(reply.fault, sum(self._sizes[:number]))
            self._end(Answer(msgspec.structs.replace(reply, fault=fault)))
            return
        if reply.at_store is not None:
            task = asyncio.create_task(self._bring(number, reply))
            self._bringing.add(task)
            task.add_done_callback(self._bringing.discard)
            return
        self._replies[number] = reply
        try:
            self._go_on()
        except RequestError as error:
            self._end(error)
            return
        if len(self._replies) == len(self._pieces):
            self._end(Answer(joined([self._replies[index] for index in range(len(self._pieces))])))

    async def _bring(self, number: int, reply: Reply) -> None:
        try:
            whole = await self._whole(reply)
        except RequestError as error:
            whole_or_error: Answer | RequestError = error
        else:
            whole_or_error = Answer(whole)
        self._under_way[number] = _nothing
        self._came(number, whole_or_error)

    def _end(self, result: Answer | RequestError) -> None:
        self._give_up()
        self._done(result)

    def _give_up(self) -> None:
        self._has_ended = True
        under_way, self._under_way = self._under_way, {}
        for give_up in under_way.values():
            give_up()


def _nothing() -> None:
    """Give up what has come."""


def joined(replies: Sequence[Reply]) -> Reply:
    """Return one reply whose outputs have the rows of all, in their order."""
    columns = zip(*(reply.outputs or () for reply in replies), strict=True)
    outputs = tuple(
        Tensor(
            column[0].name,
            column[0].datatype,
            (sum(tensor.shape[0] for tensor in column), *column[0].shape[1:]),
            b"".join(tensor.data for tensor in column),
        )
        for column in columns
    )
    return msgspec.structs.replace(replies[0], outputs=outputs)


def _moved(fault: Fault, rows: int) -> Fault:
    """Return a fault whose field counts the rows of all pieces."""
    found = _PLACE.match(fault.field or "")
    if found is None:
        return fault
    return msgspec.structs.replace(fault, field=f"{found[1]}[{int(found[2]) + rows}]")

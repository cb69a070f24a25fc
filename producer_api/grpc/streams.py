"""``ModelStreamInfer``: many inferences on one call, answered in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from .calls import Ended, is_ok, text_of
from .schema import MESSAGES, message_class
from .unread import UnreadAnswers
from .wire_format import BYTES, encode_varint

AT_ONCE: Final = 128
"""Inferences of one stream in progress. Beyond it the next message is read when the first is answered."""

_ANSWER = encode_varint(MESSAGES["ModelStreamInferResponse"]["infer_response"][0] << 3 | BYTES)
_Failure = message_class("ModelStreamInferResponse")

Infer = Callable[[bytes], Awaitable[Ended]]


async def stream(infer: Infer, call: Any, unread: UnreadAnswers) -> None:
    """Answer the messages of a call until its client has no more, and has all answers.

    An error ends its inference and not the stream. A client that does not read its answers is not read either, once
    as many as may be in progress wait for it.

    Args:
        infer: answers one message.
        call: a ``grpc.aio.ServicerContext``.
        unread: where the answer is counted that the client is to read next.
    """
    waiting: asyncio.Queue[asyncio.Task[Ended] | None] = asyncio.Queue()
    room = asyncio.Semaphore(AT_ONCE)

    async def read() -> None:
        try:
            while True:
                await room.acquire()
                message = await call.read()
                if message is grpc.aio.EOF:
                    return
                waiting.put_nowait(asyncio.ensure_future(infer(message)))
                del message
        finally:
            waiting.put_nowait(None)

    reading = asyncio.ensure_future(read())
    task: asyncio.Task[Ended] | None = None
    try:
        while (task := await waiting.get()) is not None:
            answer = _encoded(await task)
            unread.begin(call, len(answer))
            try:
                await call.write(answer)
            finally:
                unread.end(call)
            room.release()
        await reading
    finally:
        reading.cancel()
        left = [task, *(waiting.get_nowait() for _ in range(waiting.qsize()))]
        unfinished = [one for one in left if one is not None]
        for one in unfinished:
            one.cancel()
        await asyncio.gather(reading, *unfinished, return_exceptions=True)


def _encoded(ended: Ended) -> bytes:
    if is_ok(ended):
        body = ended.response.body
        return b"".join((_ANSWER, encode_varint(len(body)), body))
    made: bytes = _Failure(error_message=text_of(ended)).SerializeToString()
    return made

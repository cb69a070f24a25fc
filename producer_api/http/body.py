"""Reading the body of a request with a limit on its size and on its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Send

from producer_api.inference.codec import Response
from producer_api.load.body_budget import IncomingBody
from producer_api.queue.admission import refusal
from shared.wire.outcomes import BODY_TOO_LARGE, OVERLOADED, REQUEST_TIMEOUT, RequestError

from . import responses

BODY_TIMEOUT_S = 30.0
"""Time a client has for sending its body."""

SMALL_BYTES = 64 * 1024

_PARTS = 4096
_MOST_DIGITS = 18


class Disconnected(Exception):
    """The client went away before its body was complete."""


def declared_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    """Size of the body as Content-Length declares it; 0 when there is no body, None when it comes in chunks."""
    length = headers.get(b"content-length")
    if length is not None:
        # The server refuses longer numbers. This is also asked while an error is being answered, so it must not raise.
        return int(length) if len(length) <= _MOST_DIGITS and length.isdigit() else None
    return None if b"transfer-encoding" in headers else 0


async def read(
    receive: Receive,
    declared: int | None,
    max_bytes: int,
    arriving: Callable[[], AbstractContextManager[IncomingBody]],
    timeout_s: float = BODY_TIMEOUT_S,
) -> bytes:
    """Read a body to its end.

    Args:
        arriving: what to enter while the body comes in pieces.

    Raises:
        RequestError: ``BODY_TOO_LARGE`` as soon as that is known, ``OVERLOADED``, ``REQUEST_TIMEOUT``.
        Disconnected: the client went away.
    """
    if declared is not None and declared > max_bytes:
        raise too_large(max_bytes)
    # Most bodies have arrived together with their head. Those are taken without setting a timer.
    step = receive().__await__()
    try:
        waiting = next(step)
    except StopIteration as done:
        message: Message = done.value
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message["body"]
            if len(whole) > max_bytes:
                raise too_large(max_bytes) from None
            return whole
        begun = None
    else:
        begun = _Begun(step, waiting)
    with suppress(TimeoutError), arriving() as incoming:
        async with asyncio.timeout(timeout_s) as limit:
            incoming.on_given_up = partial(_end, limit)
            return await _collect(message if begun is None else await begun, receive, max_bytes, incoming)
    # Not where that is caught: the error that is raised here would know the other, which knows all that came.
    if incoming.is_given_up:
        raise _too_much()
    raise RequestError(REQUEST_TIMEOUT, f"The body was not complete after {timeout_s:g} s.")


async def _collect(message: Message, receive: Receive, max_bytes: int, incoming: IncomingBody) -> bytes:
    now_s = asyncio.get_running_loop().time
    blocks: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join((*blocks, *parts))
        if not incoming.take(len(part), now_s()):
            raise _too_much()
        if len(parts) == _PARTS:  # a body that trickles in must not cost many times its size
            blocks.append(b"".join(parts))
            parts.clear()
        message = await receive()
    raise Disconnected


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0.0)


def _too_much() -> RequestError:
    return refusal(OVERLOADED, "This front end is receiving too many bodies at once, or too slow ones.")


class _Begun:
    """An awaitable whose first step has been taken already and led to ``waiting``."""

    def __init__(self, step: Generator[Any, Any, Message], waiting: Any) -> None:
        self._step, self._waiting = step, waiting

    def __await__(self) -> Generator[Any, Any, Message]:
        waiting = self._waiting
        try:
            while True:
                try:
                    result = yield waiting
                except BaseException as error:
                    waiting = self._step.throw(error)
                else:
                    waiting = self._step.send(result)
        except StopIteration as done:
            message: Message = done.value
            return message


def too_large(max_bytes: int) -> RequestError:
    """Make the error for a body over the limit."""
    return RequestError(BODY_TOO_LARGE, f"The body must be at most {max_bytes} bytes.", field="body")


async def send_unread(send: Send, response: Response, headers: Mapping[bytes, bytes]) -> None:
    """Send ``response`` while the body has not been read to its end.

    The rest of a small body is left to the server, which skips it, so the connection lives on. Otherwise the connection
    ends; the server sees to it that the client finds the answer.
    """
    declared = declared_bytes(headers)
    if declared is None or declared > SMALL_BYTES or b"expect" in headers:
        response.is_last = True
    await responses.send(send, response)

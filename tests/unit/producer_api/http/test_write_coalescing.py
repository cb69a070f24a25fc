"""The transport of the front end, over a real socket: whatever closes it, what was written arrives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from producer_api.http.write_coalescing import CoalescingTransport

CLOSES: dict[str, Callable[[CoalescingTransport], None]] = {
    "in order": CoalescingTransport.close,
    "at once, as an idle connection of a process that stops": CoalescingTransport.close_now,
}


@pytest.mark.parametrize("how", CLOSES)
def test_what_was_written_in_the_turn_of_the_close_arrives(how: str) -> None:
    async def received() -> bytes:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            inner, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport = CoalescingTransport(inner, loop, inner.close)
            transport.write(b"head ")
            transport.write(b"body")
            CLOSES[how](transport)
            found = b""
            async with asyncio.timeout(10):
                while part := await loop.sock_recv(theirs, 100):
                    found += part
            return found

    assert asyncio.run(received()) == b"head body"

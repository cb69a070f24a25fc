"""Clients that mean no good [I/O]: what they do costs nobody else an answer, and gives nothing an excuse.

Each fault is bounded in bytes and in time, and says what must come of it. A front end or a server that is killed or cut
off meanwhile ends it early.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from shared import keys
from shared.redis.client import RedisError
from shared.wire.messages import WireError, decode_request
from tests.storm.ledger import Ledger, nonce_of
from tests.storm.plan import Hostility
from tests.storm.world import LANES, Child, World
from tests.unit.consumer.models.picture_files import scans_of

STAYS_S = 3.0
"""So long a client that never reads stays connected."""
ANSWER_S = 10.0
DEAF, PIPELINED, ASKED = 8, 400, 20
MAPS, ANSWER_BYTES, ECHO_BYTES, ECHOES = 1 << 19, 100_000, 1 << 20, 48
ZEROS = 4300
CHUNK = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
CHUNKS = 1000
SCANS = scans_of(2400, 2400, 500)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def many_maps(count: int = MAPS) -> bytes:
    """Return msgpack that is small as bytes and large as objects: a list of ``count`` empty maps."""
    return b"\xdd" + count.to_bytes(4, "big") + b"\x80" * count


def head(line: str, *headers: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """Connect, and take the connection down afterwards; whoever is killed meanwhile ends it, which is no fault."""
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


class Hostile:
    """Does what clients may do that mean no good."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world, self._ledger = world, ledger
        self._target = f"/v1/models/{world.model}/predict"
        self._under_way: set[asyncio.Task[None]] = set()
        self._faults: dict[Hostility, Callable[[Child], Awaitable[None]]] = {
            Hostility.MAPS: self._maps,
            Hostility.DIRECT_MAPS: self._direct_maps,
            Hostility.ENDLESS: self._endless,
            Hostility.ZEROS: self._zeros,
            Hostility.SCANS: self._scans,
            Hostility.DEAF_TO_QUESTIONS: self._deaf_to_questions,
            Hostility.DEAF_TO_ANSWERS: self._deaf_to_answers,
            Hostility.DEAF_TO_REDIS: self._deaf_to_redis,
        }

    def begin(self, what: Hostility, child: Child) -> None:
        """Begin a fault at a front end; it ends by itself."""
        task = asyncio.create_task(self._run(what, child))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait for the end of all faults."""
        await asyncio.gather(*self._under_way)

    async def _run(self, what: Hostility, child: Child) -> None:
        self._ledger.seen[f"hostile: {what}"] += 1
        with contextlib.suppress(OSError, EOFError, TimeoutError, RedisError):
            await self._faults[what](child)

    async def _post(self, child: Child, body: bytes, content_type: str, right: tuple[int, ...]) -> None:
        request = head(f"POST {self._target}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
        await self._expect(child, [request + body], right)

    async def _expect(self, child: Child, parts: list[bytes], right: tuple[int, ...]) -> None:
        """Send parts until there is an answer; its status must be a right one, or say that the service is away."""
        async with connected(child.port) as (reader, writer):
            sending = asyncio.create_task(self._send(writer, parts))
            try:
                async with asyncio.timeout(ANSWER_S):
                    line = await reader.readuntil(b"\r\n")
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            status = int(line.split(b" ")[1])
            self._ledger.seen[f"hostile: answered with {status}"] += 1
            if status not in (*right, 429, 503, 504):
                self._ledger.breach("hostile", f"{child.name} answered {line!r} where {right} is right.")

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, parts: list[bytes]) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    async def _maps(self, child: Child) -> None:
        await self._post(child, many_maps(), "application/msgpack", (400, 413, 422))

    async def _direct_maps(self, child: Child) -> None:
        message = many_maps()
        self._ledger.hostile_messages.add(message)
        await self._world.redis.xadd(keys.work(self._world.model, LANES[1]), {"m": message}, nomkstream=True)

    async def _endless(self, child: Child) -> None:
        request = head(f"POST {self._target}", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")
        await self._expect(child, [request, *[CHUNK] * CHUNKS], (413,))

    async def _zeros(self, child: Child) -> None:
        await self._expect(
            child, [head(f"POST {self._target}", f"Content-Length: {'0' * ZEROS}5"), b"abcde"], (400, 431)
        )

    async def _scans(self, child: Child) -> None:
        await self._post(child, SCANS, "image/jpeg", (422,))

    async def _deaf_to_questions(self, child: Child) -> None:
        await self._deaf(child, head("GET /v1/models") * PIPELINED)

    async def _deaf_to_answers(self, child: Child) -> None:
        body = bytes(ANSWER_BYTES)
        request = head(
            f"POST {self._target}", "Content-Type: application/octet-stream", f"Content-Length: {ANSWER_BYTES}"
        )
        await self._deaf(child, (request + body) * ASKED)

    async def _deaf(self, child: Child, sent: bytes) -> None:
        await asyncio.gather(*(self._never_read(child.port, sent) for _ in range(DEAF)))

    async def _deaf_to_redis(self, child: Child) -> None:
        echo = b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (ECHO_BYTES, bytes(ECHO_BYTES))
        await self._never_read(self._world.server.config.port, echo * ECHOES)

    @staticmethod
    async def _never_read(port: int, sent: bytes) -> None:
        """Send as much as is taken, and read nothing; be gone after a while."""
        async with connected(port) as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STAYS_S):
                    writer.write(sent)
                    await writer.drain()
                    await asyncio.Event().wait()


def is_hostile(message: Any, ledger: Ledger) -> bool:
    """Say whether a message in a lane or a dead letter was one of these."""
    return message in ledger.hostile_messages


def nonce_in(message: Any) -> str:
    """Return the name in a message; empty where it is no request."""
    with contextlib.suppress(WireError):
        return nonce_of(decode_request(message).body or b"")
    return ""

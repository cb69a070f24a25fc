"""A small HTTP client for one kept connection [I/O]."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import msgpack

IDLE_S = 3.0
"""A connection idle for longer is not used again: the front end closes it after five seconds."""


class NotSentError(Exception):
    """No connection came about, so nothing was sent."""


class BrokenError(Exception):
    """The connection ended, or nothing came in time; what became of the request is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers in lower case, and the parsed body."""

    status: int
    headers: dict[str, str]
    body: Any


class Http:
    """One connection, opened when needed.

    Attributes:
        opened_s: when the latest was opened.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_s = self.opened_s = 0.0

    async def post(self, target: str, body: bytes, timeout_s: float, headers: str = "") -> Answer:
        """Send bytes and return the answer; ``headers`` are more of them, each with its line end.

        Raises:
            NotSentError: there is nobody to connect to.
            BrokenError: there was no answer, or only a part of one.
        """
        more = f"Content-Type: application/octet-stream\r\n{headers}Content-Length: {len(body)}\r\n"
        return await self._ask(f"POST {target}", more, body, timeout_s)

    async def get(self, target: str, timeout_s: float) -> Answer:
        """Ask for ``target`` and return the answer.

        Raises:
            NotSentError: there is nobody to connect to.
            BrokenError: there was no answer, or only a part of one.
        """
        return await self._ask(f"GET {target}", "", b"", timeout_s)

    async def _ask(self, line: str, headers: str, body: bytes, timeout_s: float) -> Answer:
        """Send a request and return its answer.

        Raises:
            NotSentError: there is nobody to connect to.
            BrokenError: there was no answer, or only a part of one.
        """
        now_s = asyncio.get_running_loop().time()
        if self._streams is not None and now_s - self._used_s > IDLE_S:
            self.close()
        if self._streams is None:
            try:
                async with asyncio.timeout(timeout_s):
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                    self.opened_s = time.monotonic()
            except (OSError, TimeoutError) as error:
                raise NotSentError(str(error)) from None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(*self._streams, line, headers, body)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise BrokenError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            self.close()
            raise

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, more: str, body: bytes
    ) -> Answer:
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nAccept: application/msgpack\r\n{more}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers["content-length"]))
        self._used_s = asyncio.get_running_loop().time()
        if headers.get("connection") == "close":
            self.close()
        if headers.get("content-type", "").startswith("application/msgpack"):
            return Answer(int(first.split(" ")[1]), headers, msgpack.unpackb(content))
        return Answer(int(first.split(" ")[1]), headers, json.loads(content))

    def close(self) -> None:
        """Close the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

"""Many clients at once, each with a connection of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections import Counter
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from tests.helpers import eventually

Answer = tuple[int, dict[str, str], Any]


class Crowd:
    """Sends ``count`` requests from a thread of its own; ``answers()`` waits for them all.

    Args:
        url: of the front end.
        target: path and query.
    """

    def __init__(self, url: str, target: str, count: int, *, content_type: str = "application/octet-stream") -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port or 0
        self._target, self._count, self._type = target, count, content_type
        self._result: Future[list[Answer]] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.set_result(asyncio.run(self._all()))
        except BaseException as error:
            self._result.set_exception(error)

    async def _all(self) -> list[Answer]:
        return list(await asyncio.gather(*(self._one(b"%06d" % number) for number in range(self._count))))

    async def _one(self, body: bytes) -> Answer:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head = (
                f"POST {self._target} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {self._type}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            answer = json.loads(await reader.readexactly(int(headers["content-length"])))
            return int(lines[0].split()[1]), headers, answer
        finally:
            writer.close()

    def answers(self) -> list[Answer]:
        """Wait for all."""
        return self._result.result(50)

    def statuses(self) -> Counter[int]:
        """How many had which status."""
        return Counter(status for status, _, _ in self.answers())


def held(url: str, model: str) -> int:
    """How many requests the front end says it holds for a model."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text: str = answer.read().decode()
    name = f'headrace_held_requests{{model="{model}"}} '
    return sum(round(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name))


def until_held(url: str, model: str, count: int) -> None:
    """Wait until so many are held."""
    eventually(lambda: held(url, model) == count)

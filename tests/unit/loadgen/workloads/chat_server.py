"""A server of OpenAI's API for tests: what it streams, and what goes wrong, is said for each request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

Script = Sequence[bytes | float]
"""What follows the head: bytes that are written as they are, a number that is waited for in seconds."""

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE: Final = b"data: [DONE]\n\n"


def part(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


def usage(prompt: int, output: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": output}
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


def answer(tokens: int = 5, gap_s: float = 0.0) -> list[bytes | float]:
    """A whole answer of so many tokens."""
    parts: list[bytes | float] = [part("")]
    for _ in range(tokens):
        parts += [gap_s, part("x")] if gap_s else [part("x")]
    return [*parts, part(None, "length"), usage(3, tokens), DONE]


@dataclass
class ChatServer:
    """What it saw. ``script`` says what is streamed to the request of a number, which begins at 0."""

    script: Callable[[int], Script]
    port: int = 0
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    documents: list[Any] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")}
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            if method == "GET":
                await self._get(path, writer)
                return
            number = len(self.paths)
            self.paths.append(path)
            self.keys.append(fields.get("authorization", ""))
            self.documents.append(json.loads(body))
            writer.write(HEAD)
            for step in self.script(number):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await asyncio.sleep(step)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _get(self, path: str, writer: asyncio.StreamWriter) -> None:
        found = {"object": "list", "data": [{"id": "their/model", "object": "model"}]} if path == "/v1/models" else None
        body = json.dumps(found or {"detail": "Not Found"}).encode()
        status = b"200 OK" if found else b"404 Not Found"
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % (status, len(body)) + body)
        await writer.drain()


@contextmanager
def chat_server(script: Callable[[int], Script] = lambda number: answer()) -> Iterator[ChatServer]:
    """Serve from a thread of this process, on a free port, while the block runs."""
    server = ChatServer(script)
    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0))
    server.port = listener.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="chat-server", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_end(server, listener))
        loop.close()


async def _end(server: ChatServer, listener: asyncio.Server) -> None:
    """Close every connection, also one that was accepted a moment ago, and wait until all are gone."""
    listener.close()
    for _ in range(3):  # what was accepted becomes a connection, and that a task
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in server.writers:
        writer.transport.abort()
    for writer in server.writers:
        with suppress(ConnectionError):
            await writer.wait_closed()

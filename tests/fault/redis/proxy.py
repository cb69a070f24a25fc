"""A network that fails as told: a TCP proxy in front of Redis that knows where commands and answers begin and end.

It loses the answer to a certain command, cuts and forgets connections, delays, falls silent, refuses, and leads to
another server. Nothing happens by chance, and nothing but forgetting by time: a loss is tied to the nth command that
fits, whatever the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from shared.redis.embedded import HOST, free_port
from tests.fault.redis.resp import end_of, words

T = TypeVar("T")
Fits = Callable[[list[bytes]], bool]


def calls(name: str) -> Fits:
    """Return what fits a command of this name, or a call of the function of this name."""
    wanted = name.encode().lower()
    return lambda command: wanted in (one.lower() for one in command[:2])


@dataclass
class Loss:
    """An answer that will not arrive. TCP loses nothing out of the middle, so nothing after it arrives either.

    Attributes:
        carrying: what the answer must contain to be lost.
        left: so many answers that fit are still to come; the last of them is lost.
        cuts: the connection is closed in place of the answer; otherwise it stays open and silent.
        struck: set when the server has answered and the answer is lost: the command has taken effect.
    """

    fits: Fits
    carrying: bytes
    left: int
    cuts: bool
    struck: threading.Event = field(default_factory=threading.Event)

    def takes(self, command: list[bytes], answer: bytes) -> bool:
        """Say whether this answer is the one, and count it."""
        if not self.left or not self.fits(command) or self.carrying not in answer:
            return False
        self.left -= 1
        return self.left == 0


@dataclass
class Watch:
    """Commands that came by and fitted, in ``seen``."""

    fits: Fits
    seen: list[list[bytes]] = field(default_factory=list)


class _Connection:
    """One client's connection and the one behind it."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._unanswered: deque[list[bytes]] = deque()
        self._asked, self._answered = b"", b""
        self._is_silent = self._is_forgotten = False
        self._used_s = asyncio.get_running_loop().time()

    def is_forgotten(self) -> bool:
        """Say whether it is, and take note that it is used now."""
        now_s = asyncio.get_running_loop().time()
        if not self._is_forgotten and now_s - self._used_s > self._proxy.forgets_after_s:
            self._is_forgotten = True
            self._proxy.forgotten += 1
        self._used_s = now_s
        return self._is_forgotten

    def forget(self) -> None:
        """Pass nothing on any more, and tell nobody."""
        self._is_forgotten = True

    def asked(self, data: bytes) -> None:
        """Pass commands on, taking note of them."""
        self._asked += data
        while self._asked and (end := end_of(self._asked)) is not None:
            command, self._asked = words(self._asked[:end]), self._asked[end:]
            self._unanswered.append(command)
            self._proxy.note(command)
        self._server.write(data)

    def answered(self, data: bytes) -> None:
        """Pass answers on, up to one that is to be lost."""
        if self._is_silent:
            return
        self._answered += data
        while self._answered and (end := end_of(self._answered)) is not None:
            answer, self._answered = self._answered[:end], self._answered[end:]
            loss = self._proxy.loss_of(self._unanswered.popleft(), answer)
            if loss is not None:
                self._is_silent = True
                if loss.cuts:
                    self.cut()
                loss.struck.set()
                return
            self._client.write(answer)

    def cut(self) -> None:
        """Close both ends without a farewell."""
        for end in (self._client, self._server):
            end.transport.abort()


class Proxy:
    """Listens on a port of its own and passes on to ``port``; a context manager.

    Attributes:
        port: where new connections are led; may be changed at any time.
        delay_s: how long each piece of an answer is held back.
        forgets_after_s: a connection that was idle for longer is forgotten, as address translation does: it stays
            open, and what is sent on it goes nowhere.
        forgotten: how many were, each when somebody used it again.
    """

    def __init__(self, port: int) -> None:
        self.port, self.delay_s = port, 0.0
        self.forgets_after_s, self.forgotten = math.inf, 0
        self._own = free_port()
        self._losses: list[Loss] = []
        self._watches: list[Watch] = []
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    @property
    def url(self) -> str:
        """Redis's address through this proxy."""
        return f"redis://{HOST}:{self._own}/0"

    def lose(self, fits: Fits, nth: int = 1, *, carrying: bytes = b"", cuts: bool = False) -> Loss:
        """Lose the nth answer from now to a command that fits; see :class:`Loss`."""
        loss = Loss(fits, carrying, nth, cuts)
        self._do(lambda: self._losses.append(loss))
        return loss

    def watch(self, fits: Fits) -> Watch:
        """Take note of the commands that fit, from now on."""
        watch = Watch(fits)
        self._do(lambda: self._watches.append(watch))
        return watch

    def forget(self) -> None:
        """Forget all connections; new ones are welcome."""
        self._do(self._forget)

    def cut(self) -> None:
        """Cut all connections; new ones are welcome."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Cut all connections and refuse new ones, as the machine of a dead server does."""
        self._run(self._close_listener())
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._run(self._listen())

    def fall_silent(self) -> None:
        """Pass nothing on any more, in either direction: a cable that was pulled. Connections stay open."""
        self._do(self._flows.clear)

    def speak(self) -> None:
        """Go on, with what was held back meanwhile, as TCP does."""
        self._do(self._flows.set)

    def lead_to(self, port: int, *, cuts: bool = True) -> None:
        """Lead new connections to another server, as a name that moves to another machine does; cut the old ones."""
        self.port = port
        if cuts:
            self.cut()

    def note(self, command: list[bytes]) -> None:
        """Show a command to those who watch."""
        for watch in self._watches:
            if watch.fits(command):
                watch.seen.append(command)

    def loss_of(self, command: list[bytes], answer: bytes) -> Loss | None:
        """Return the loss that this answer is, if it is one."""
        return next((loss for loss in self._losses if loss.takes(command, answer)), None)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, step: Callable[[], T]) -> T:
        async def stepping() -> T:
            return step()

        return self._run(stepping())

    def _run(self, steps: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result(10)

    def _forget(self) -> None:
        for connection in self._connections:
            connection.forget()

    def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, HOST, self._own)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _end_tasks(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._ended(writer):
            await self._flows.wait()
            behind_reader, behind = await asyncio.open_connection(HOST, self.port)
            connection = _Connection(self, writer, behind)
            self._connections.add(connection)
            with self._ended(behind):
                tasks = [
                    asyncio.create_task(self._pass(reader, behind, connection, replies=False)),
                    asyncio.create_task(self._pass(behind_reader, writer, connection, replies=True)),
                ]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    self._connections.discard(connection)

    @contextlib.contextmanager
    def _ended(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        with contextlib.suppress(OSError):
            try:
                yield
            finally:
                writer.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        *,
        replies: bool,
    ) -> None:
        step = connection.answered if replies else connection.asked
        while data := await reader.read(1 << 18):
            await self._flows.wait()
            if connection.is_forgotten():
                continue
            if replies and self.delay_s:
                await asyncio.sleep(self.delay_s)
            step(data)
            await writer.drain()

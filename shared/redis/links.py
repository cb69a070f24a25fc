"""The connections of the hot paths to Redis [I/O]: one each, with pings while it is idle."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.exceptions import (
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from .errors import RedisError, ServerError, ends_connection, is_demoted
from .idle import DOUBT_S, LOST_S, IdleSchedule


class InPieces(tuple[bytes, ...]):
    """An argument of a command in pieces, which a :class:`Link` sends one after the other without joining them."""

    __slots__ = ()


def _packed(command: Sequence[Any]) -> list[bytes]:
    """Encode a command for the wire; only its last argument may be in pieces."""
    last = command[-1]
    if not isinstance(last, InPieces):
        return [hiredis.pack_command(tuple(command))]
    # The encoding of an argument is $LENGTH, its bytes, and a line end: packed with an empty last argument, the
    # command ends in the length 0, which is replaced.
    start = hiredis.pack_command((*command[:-1], b"")).removesuffix(b"$0\r\n\r\n")
    return [start + b"$%d\r\n" % sum(len(piece) for piece in last), *last, b"\r\n"]


def _schedule(pool: Any) -> IdleSchedule:
    """Return the schedule that ``shared.redis.client.connect`` attached to a pool, for links made from it."""
    schedule: IdleSchedule = pool.idle
    return schedule


_PING = hiredis.pack_command(("PING",))


class SyncLink:
    """One connection of a synchronous client, held for one thread's hot path; see :class:`Link`.

    Another thread may ping it while it is idle: a lock is held while a call waits for answers.
    """

    def __init__(self, client: redis.Redis) -> None:
        pool: Any = client.connection_pool
        self._pool, self._idle = pool, _schedule(pool)
        self._connection: Any = None
        self._is_stale = False
        self._busy = threading.Lock()
        self._awaited = 0
        self._used_s = 0.0

    def call(self, *command: Any) -> Any:
        """Send one command and return its answer as Redis gave it.

        Raises:
            ServerError: Redis answered with an error.
            RedisError: the connection failed; whether the command took effect is unknown.
        """
        self.send(command)
        return self.receive()

    def send(self, *commands: Sequence[Any]) -> None:
        """Send commands, each of which has one answer to be received, in order.

        Raises:
            RedisError: the connection failed; which commands took effect is unknown.
        """
        if not commands:  # no answer would ever release the lock taken here
            return
        if not self._awaited:
            self._busy.acquire()
            if self._is_stale or self._idle.is_stale(time.monotonic() - self._used_s):
                self._drop()
        self._awaited += len(commands)
        try:
            if self._connection is None:
                self._connection = self._pool.get_connection()
            packed = [hiredis.pack_command(tuple(command)) for command in commands]
            self._connection.send_packed_command([b"".join(packed)], check_health=False)
        except BaseException:
            self.close()
            raise

    def receive(self) -> Any:
        """Wait for the next answer and return it as Redis gave it.

        Raises:
            ServerError: Redis answered with an error.
            RedisError: the connection failed, and with it every answer that has not been received.
        """
        if self._connection is None:
            raise ConnectionError("The connection was closed before this answer was received.")
        try:
            answer = self._connection.read_response()
        except ResponseError as error:
            if is_demoted(error) or ends_connection(error):
                self.close()
            else:
                self._received()
            raise
        except BaseException:
            self.close()
            raise
        self._received()
        return answer

    def receive_many(self, count: int) -> list[Any]:
        """Wait for the next answers and return them in order, error answers as ``ServerError`` objects.

        Raises:
            RedisError: the connection failed.
        """
        answers: list[Any] = []
        for _ in range(count):
            try:
                answers.append(self.receive())
            except ResponseError as error:
                answers.append(error)
        return answers

    def call_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once and return their answers as :meth:`receive_many` does.

        Raises:
            RedisError: the connection failed; which commands took effect is unknown.
        """
        self.send(*commands)
        return self.receive_many(len(commands))

    def _received(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            self._used_s = time.monotonic()
            self._busy.release()

    def keep_alive(self) -> bool:
        """Ping an idle connection; do nothing if it is in use. From any thread.

        Returns:
            False when it was not, and has been closed.
        """
        if not self._busy.acquire(blocking=False):
            return True
        try:
            if self._connection is None or not self._idle.is_due(time.monotonic() - self._used_s):
                return True
            try:
                self._connection.send_packed_command([_PING], check_health=False)
                self._connection.read_response(timeout=LOST_S)
            except ResponseError:
                pass  # whatever it answers, it is there
            except (RedisError, OSError):
                self._drop()
                return False
            self._used_s = time.monotonic()
            return True
        finally:
            self._busy.release()

    def renew(self) -> None:
        """Make the next command open a new connection; from any thread."""
        self._is_stale = True

    def close(self) -> None:
        """Close the connection and give it back to its pool."""
        self._drop()
        if self._awaited:
            self._awaited = 0
            self._busy.release()

    def _drop(self) -> None:
        connection, self._connection, self._is_stale = self._connection, None, False
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)


class _Answers(asyncio.Protocol):
    """The receiving end of a taken-over connection: answers go, in order, to the calls that wait for them.

    Attributes:
        error: why the connection is over; None while it lives.
        is_pinged: a ping was sent, whose answer comes before all others and belongs to no call.
    """

    def __init__(self) -> None:
        self.is_pinged = False
        self._reader = hiredis.Reader(replyError=_server_error)
        self._expected = 0
        self._answers: list[Any] = []
        self._waiting: asyncio.Future[list[Any]] | None = None
        self.error: RedisError | None = None

    def expect(self, count: int) -> asyncio.Future[list[Any]]:
        """Return a future of the next ``count`` answers; one at a time."""
        self._expected, self._answers = count, []
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
                if self.is_pinged:
                    self.is_pinged = False
                else:
                    self._answers.append(answer)
        except hiredis.HiredisError as error:
            self.fail(ConnectionError(f"The server's answer cannot be read: {error}"))
            return
        waiting = self._waiting
        if len(self._answers) > (0 if waiting is None else self._expected):
            # Taken for the answer to the next call, it would shift every answer after it.
            self.fail(ConnectionError("The server sent an answer to nothing."))
        elif waiting is not None and len(self._answers) == self._expected:
            self._waiting = None
            answers, self._answers = self._answers, []
            if not waiting.done():
                waiting.set_result(answers)

    def eof_received(self) -> None:
        self.fail(ConnectionError("Connection closed by server."))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(ConnectionError(str(exc or "Connection lost.")))

    def fail(self, error: RedisError) -> None:
        """End what waits, and everything after it, with ``error``."""
        self.error = self.error or error
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _server_error(text: str) -> ServerError:
    """Make the exception for an error answer, as redis-py would."""
    code, _, rest = text.partition(" ")
    kind = {"OOM": OutOfMemoryError, "READONLY": ReadOnlyError}.get(code)
    return ResponseError(text) if kind is None else kind(rest)


class Link:
    """One connection of an asynchronous client, held for one purpose.

    redis-py opens it: address, TLS, authentication, database. Then the link takes over its transport, because the hot
    path needs none of the library's streams, timers and tasks per command: no pool, no retry, one future per call.
    After any error but an error answer of Redis it closes the connection, and the next call opens a new one. One call
    at a time. While idle it pings the server now and then.

    Attributes:
        was_idle_s: how long it had been idle before the latest call; 0 when that call opened the connection.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        pool: Any = client.connection_pool
        self._pool, self._idle = pool, _schedule(pool)
        self._connection: Any = None
        self._transport: Any = None
        self._answers = _Answers()
        self._timeout_s = 0.0
        self._since_s: float | None = None
        self._used_s = self._called_s = self.was_idle_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None

    async def call(self, *command: Any) -> Any:
        """Send one command and return its answer.

        Raises:
            ServerError: Redis answered with an error.
            RedisError: the connection failed; whether the command took effect is unknown.
        """
        answer = (await self.call_many((command,)))[0]
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def call_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once and return their answers in order, error answers as ``ServerError`` objects.

        Args:
            commands: of each the last argument may be :class:`InPieces`.

        Raises:
            RedisError: the connection failed; which commands took effect is unknown.
        """
        clock = asyncio.get_running_loop().time
        self.was_idle_s = (now_s := clock()) - self._called_s
        if self._connection is None or self._answers.error is not None or self._is_doubtful(now_s - self._used_s):
            await self.close()
            await self._open()
            self.was_idle_s, now_s = 0.0, clock()
        packed = [piece for command in commands for piece in _packed(command)]
        self._since_s = now_s
        try:
            waiting = self._answers.expect(len(commands))
            self._transport.writelines(packed)
            answers = await waiting
        except BaseException:
            await self.close()
            raise
        self._since_s, self._used_s = None, clock()
        self._called_s = self._used_s
        if any(isinstance(answer, ResponseError) and is_demoted(answer) for answer in answers):
            await self.close()
        return answers

    def _is_doubtful(self, unused_s: float) -> bool:
        """Say whether the connection is rather replaced than trusted with a call."""
        return unused_s > DOUBT_S if self._answers.is_pinged else self._idle.is_stale(unused_s)

    def renew(self) -> None:
        """Make the next call open a new connection; a call in progress continues."""
        self._answers.error = self._answers.error or ConnectionError("The connection was given up.")

    async def _open(self) -> None:
        connection = await self._pool.get_connection()
        self._connection = connection
        self._answers = _Answers()
        self._transport = connection._writer.transport
        self._transport.set_protocol(self._answers)
        self._timeout_s = connection.socket_timeout or math.inf
        self._used_s = asyncio.get_running_loop().time()
        self._watch()

    def _watch(self) -> None:
        """Give up on a server that stays silent, and look after an idle connection. One slow timer for all calls, so
        a timeout may take half as long again."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._since_s is None:
            self._look_after(now_s)
        elif now_s - self._since_s > self._timeout_s:
            self._answers.fail(TimeoutError("Timeout reading from the server."))
        next_s = LOST_S if self._answers.is_pinged else min(self._timeout_s, self._idle.every_s) / 2
        if self._answers.error is None and next_s < math.inf:
            self._watchdog = loop.call_later(next_s, self._watch)

    def _look_after(self, now_s: float) -> None:
        idle_s = now_s - self._used_s
        if self._answers.is_pinged:
            if idle_s >= LOST_S:
                self._answers.fail(ConnectionError("The server did not answer a ping."))
        elif self._idle.is_due(idle_s) and self._answers.error is None:
            self._answers.is_pinged, self._used_s = True, now_s
            self._transport.write(_PING)

    async def close(self) -> None:
        """Close the connection and give it back to its pool."""
        connection, self._connection, self._since_s = self._connection, None, None
        if self._watchdog is not None:
            self._watchdog.cancel()
        if connection is not None:
            self._transport.abort()  # a goodbye of TLS would take a while, and longer than the event loop may live
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

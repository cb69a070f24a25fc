"""The only place where Redis clients are made.

redis-py's defaults do not suit a queue: it repeats commands that may already have taken effect (a lost XADD would
enter twice), and cuts blocking reads at five seconds. Here nothing is repeated automatically and timeouts are explicit.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from . import redis_url, sentinel

ServerError = ResponseError
"""Redis answered with an error; the connection is fine."""

OutOfMemory = OutOfMemoryError
"""Redis refused to store more (maxmemory with noeviction)."""

Silence = TimeoutError
"""Redis has not answered for the whole timeout."""


class NotPrimary(ConnectionError):
    """The server is a replica, where nothing can be asked for; a new connection may lead to the primary."""


ClientError = RedisError
"""Anything that went wrong between this process and Redis, ``ServerError`` included."""

AsyncClient = redis.asyncio.Redis

# Every model has connections of its own, so the library's bound of 100 would cut off the thirtieth model or so.
_COMMON: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "health_check_interval": 0,
    "socket_read_size": 256 * 1024,  # a picture in one or two system calls
    "max_connections": 100_000,
    "driver_info": None,  # else each connection begins with CLIENT SETINFO, which no role may do and Redis 7.0 lacks
    # Tells operators who is connected. And a connection must begin with some answer: in TLS 1.3 a server sends tickets
    # unasked, which the library would take for an answer to nothing.
    "client_name": "headrace",
}


def _options(timeout_s: float, retry: Any) -> dict[str, Any]:
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": retry, **_COMMON}


class _PasswordFile(CredentialProvider):
    """A user whose password is in a file, which is read for each new connection: it may change while we run."""

    def __init__(self, user: str, path: str) -> None:
        self._user, self._path = user, Path(path)

    def get_credentials(self) -> tuple[str, str]:
        try:
            return self._user, self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise AuthenticationError(f"The password file {self._path} cannot be read: {why}.") from None

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


def _password_file(url: str) -> tuple[str, dict[str, Any]]:
    """Take the parameter ``password_file`` out of an address; return the rest, and what a client is made with."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    path = query.pop("password_file", None)
    if path is None:
        return url, {}
    # Not by urlunsplit, which leaves the slashes of unix:// out.
    rest = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?' if query else ''}{urlencode(query)}"
    return rest, {"credential_provider": _PasswordFile(unquote(parts.username or "default"), path)}


def connect(url: str, timeout_s: float = 3.0) -> redis.Redis:
    """Make a synchronous client; connections are opened when first used.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``rediss+sentinel://``; with the last
            two, each connection that is opened asks the Sentinels where the primary is. The parameter ``password_file``
            names a file with the password.
        timeout_s: time after which a silent server counts as lost; must exceed every blocking read.
    """
    url, credentials = _password_file(url)
    options = _options(timeout_s, Retry(NoBackoff(), 0)) | credentials
    if redis_url.is_sentinel(url):
        return sentinel.connect(redis_url.parse_sentinel(url), options)
    return redis.Redis.from_url(url, **options)


def connect_async(url: str, timeout_s: float = 3.0) -> redis.asyncio.Redis:
    """Make an asynchronous client; see :func:`connect`."""
    url, credentials = _password_file(url)
    options = _options(timeout_s, AsyncRetry(NoBackoff(), 0)) | credentials
    if redis_url.is_sentinel(url):
        return sentinel.connect_async(redis_url.parse_sentinel(url), options)
    return redis.asyncio.Redis.from_url(url, **options)


def is_demoted(error: object) -> bool:
    """Say whether an error answer comes from a server that is no primary any more: a new connection may reach it."""
    return isinstance(error, ReadOnlyError) or (
        isinstance(error, ResponseError) and str(error).startswith(("UNBLOCKED", "MASTERDOWN"))
    )


def _ends_connection(error: ResponseError) -> bool:
    """Say whether the server closes the connection after this answer, as when a command is too large for it."""
    return str(error).startswith("Protocol error")


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


class SyncLink:
    """One connection of a synchronous client, held for one thread's hot path; see :class:`Link`."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._is_stale = False

    def call(self, *command: Any) -> Any:
        """Send one command and return its answer as Redis gave it.

        Raises:
            ServerError: Redis answered with an error.
            ClientError: the connection failed; whether the command took effect is unknown.
        """
        self.send(command)
        return self.receive()

    def send(self, *commands: Sequence[Any]) -> None:
        """Send commands, each of which has one answer to be received, in order.

        Raises:
            ClientError: the connection failed; which commands took effect is unknown.
        """
        if self._is_stale:
            self.close()
        if self._connection is None:
            self._connection = self._pool.get_connection()
        packed = [hiredis.pack_command(tuple(command)) for command in commands]
        try:
            self._connection.send_packed_command([b"".join(packed)], check_health=False)
        except BaseException:
            self.close()
            raise

    def receive(self) -> Any:
        """Wait for the next answer and return it as Redis gave it.

        Raises:
            ServerError: Redis answered with an error.
            ClientError: the connection failed, and with it every answer that has not been received.
        """
        if self._connection is None:
            raise ConnectionError("The connection was closed before this answer was received.")
        try:
            return self._connection.read_response()
        except ResponseError as error:
            if is_demoted(error) or _ends_connection(error):
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """Have the next command open the connection anew; from any thread."""
        self._is_stale = True

    def close(self) -> None:
        """Close the connection and give it back to its pool."""
        connection, self._connection, self._is_stale = self._connection, None, False
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)


class _Answers(asyncio.Protocol):
    """The receiving end of a taken-over connection: answers go, in order, to whoever waits for them.

    Attributes:
        error: why the connection is over; None while it lives.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=_server_error)
        self._expected = 0
        self._answers: list[Any] = []
        self._waiting: asyncio.Future[list[Any]] | None = None
        self.error: ClientError | None = None

    def expect(self, count: int) -> asyncio.Future[list[Any]]:
        """Return a future of the next ``count`` answers; one at a time."""
        self._expected, self._answers = count, []
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not False:
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

    def fail(self, error: ClientError) -> None:
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

    redis-py opens it: address, TLS, authentication, database. Then its transport is taken over, because the hot path
    can do without the library's streams, timers and tasks per command: no pool, no retry, one future per call. After
    any error but an error answer of Redis the connection is closed and the next call opens it again. One call at a
    time.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._transport: Any = None
        self._answers = _Answers()
        self._timeout_s = 0.0
        self._since_s: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    async def call(self, *command: Any) -> Any:
        """Send one command and return its answer.

        Raises:
            ServerError: Redis answered with an error.
            ClientError: the connection failed; whether the command took effect is unknown.
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
            ClientError: the connection failed; which commands took effect is unknown.
        """
        if self._connection is None or self._answers.error is not None:
            await self.close()
            await self._open()
        packed = [piece for command in commands for piece in _packed(command)]
        self._since_s = asyncio.get_running_loop().time()
        try:
            waiting = self._answers.expect(len(commands))
            self._transport.writelines(packed)
            answers = await waiting
        except BaseException:
            await self.close()
            raise
        self._since_s = None
        if any(isinstance(answer, ResponseError) and is_demoted(answer) for answer in answers):
            await self.close()
        return answers

    def renew(self) -> None:
        """Have the next call open the connection anew; one that is under way goes on."""
        self._answers.error = self._answers.error or ConnectionError("The connection was given up.")

    async def _open(self) -> None:
        connection = await self._pool.get_connection()
        self._connection = connection
        self._answers = _Answers()
        self._transport = connection._writer.transport
        self._transport.set_protocol(self._answers)
        self._timeout_s = connection.socket_timeout or math.inf
        self._watch()

    def _watch(self) -> None:
        """Give up on a server that stays silent. One slow timer for all calls, so it may take half as long again."""
        loop = asyncio.get_running_loop()
        if self._since_s is not None and loop.time() - self._since_s > self._timeout_s:
            self._answers.fail(TimeoutError("Timeout reading from the server."))
        elif self._timeout_s < math.inf:
            self._watchdog = loop.call_later(self._timeout_s / 2, self._watch)

    async def close(self) -> None:
        """Close the connection and give it back to its pool."""
        connection, self._connection, self._since_s = self._connection, None, None
        if self._watchdog is not None:
            self._watchdog.cancel()
        if connection is not None:
            self._transport.abort()  # a goodbye of TLS would take a while, and longer than the event loop may live
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

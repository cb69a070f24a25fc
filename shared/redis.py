"""The only place where Redis clients are made.

redis-py's defaults do not suit a queue: it repeats commands that may already have taken effect (a lost XADD would
enter twice), and cuts blocking reads at five seconds. Here nothing is repeated automatically and timeouts are explicit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

ServerError = ResponseError
"""Redis answered with an error; the connection is fine."""

OutOfMemory = OutOfMemoryError
"""Redis refused to store more (maxmemory with noeviction)."""

ClientError = RedisError
"""Anything that went wrong between this process and Redis, ``ServerError`` included."""

AsyncClient = redis.asyncio.Redis

# Every model has connections of its own, so the library's bound of 100 would cut off the thirtieth model or so.
_COMMON: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "health_check_interval": 0,
    "max_connections": 100_000,
}


def connect(url: str, timeout_s: float = 3.0) -> redis.Redis:
    """Make a synchronous client; connections are opened when first used.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: time after which a silent server counts as lost; must exceed every blocking read.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **_COMMON,
    )


def connect_async(url: str, timeout_s: float = 3.0) -> redis.asyncio.Redis:
    """Make an asynchronous client; see :func:`connect`."""
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=AsyncRetry(NoBackoff(), 0),
        **_COMMON,
    )


class SyncLink:
    """One connection of a synchronous client, held for one thread's hot path; see :class:`Link`."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None

    def call(self, *command: Any) -> Any:
        """Send one command and return its answer as Redis gave it.

        Raises:
            ServerError: Redis answered with an error.
            ClientError: the connection failed; whether the command took effect is unknown.
        """
        if self._connection is None:
            self._connection = self._pool.get_connection()
        connection = self._connection
        try:
            connection.send_packed_command([hiredis.pack_command(command)], check_health=False)
            return connection.read_response()
        except ReadOnlyError:  # demoted: a new connection may reach the new primary
            self.close()
            raise
        except ResponseError:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection and give it back to its pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)


def _has_ended(connection: Any) -> bool:
    """Say whether the server has closed an idle connection, as it may after a while; sending on it would lose."""
    reader = connection._reader
    return reader is not None and (reader.at_eof() or reader.exception() is not None)


class Link:
    """One connection of an asynchronous client, held for one purpose.

    Commands on the hot path go through it: no pool, no retry, no per-command bookkeeping. After any error but an error
    answer of Redis the connection is closed and the next call opens it again. One call at a time.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None

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

        Raises:
            ClientError: the connection failed; which commands took effect is unknown.
        """
        if self._connection is not None and _has_ended(self._connection):
            await self.close()
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        connection = self._connection
        answers: list[Any] = []
        is_demoted = False
        try:
            packed = [hiredis.pack_command(tuple(command)) for command in commands]
            await connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
                    is_demoted = is_demoted or isinstance(error, ReadOnlyError)
        except BaseException:
            await self.close()
            raise
        if is_demoted:  # a new connection may reach the new primary
            await self.close()
        return answers

    async def close(self) -> None:
        """Close the connection and give it back to its pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

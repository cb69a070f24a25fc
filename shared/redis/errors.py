"""What can go wrong between this process and Redis: the kinds of errors, and what is known of each [I/O: none]."""

from __future__ import annotations

from redis.exceptions import (
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.exceptions import RedisError as _RedisError

ServerError = ResponseError
"""Redis answered with an error; the connection is fine."""

OutOfMemory = OutOfMemoryError
"""Redis refused to store more (maxmemory with noeviction)."""

RedisTimeout = TimeoutError
"""Redis has not answered for the whole timeout."""


class NotPrimary(ConnectionError):
    """The server is a replica, which does not serve Headrace; a new connection may lead to the primary."""


class NotUsable(ConnectionError):
    """The server is of a kind that Headrace does not use, such as one in cluster mode."""


RedisError = _RedisError
"""Anything that went wrong between this process and Redis, ``ServerError`` included."""


def is_demoted(error: object) -> bool:
    """Say whether an error answer comes from a server that is no primary any more: a new connection may reach it."""
    return isinstance(error, ReadOnlyError) or (
        isinstance(error, ResponseError) and str(error).startswith(("UNBLOCKED", "MASTERDOWN"))
    )


def ends_connection(error: ResponseError) -> bool:
    """Say whether the server closes the connection after this answer, as when a command is too large for it."""
    return str(error).startswith("Protocol error")

"""The only place that makes Redis clients; it also re-exports everything else about Redis that other modules need."""

from __future__ import annotations

import redis
import redis.asyncio

from shared import redis_url

from . import sentinel
from .errors import NotPrimary, NotUsable, OutOfMemory, RedisError, RedisTimeout, ServerError, is_demoted
from .idle import PING_EVERY_S, IdleSchedule
from .links import InPieces, Link, SyncLink
from .pool import Pool, options
from .pool import password_file as _password_file

__all__ = [
    "AsyncClient",
    "InPieces",
    "Link",
    "NotPrimary",
    "NotUsable",
    "OutOfMemory",
    "RedisError",
    "RedisTimeout",
    "ServerError",
    "SyncLink",
    "_password_file",
    "connect",
    "connect_async",
    "is_demoted",
]

AsyncClient = redis.asyncio.Redis


def connect(
    url: str, timeout_s: float = 3.0, ping_every_s: float = PING_EVERY_S, *, is_spared: bool = False
) -> redis.Redis:
    """Make a synchronous client; connections are opened when first used.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``rediss+sentinel://``; with the last
            two, each connection that is opened asks the Sentinels where the primary is. The parameter ``password_file``
            names a file with the password. ``redis_url.check`` says whether it can be used.
        timeout_s: time after which a silent server counts as lost; must exceed every blocking read.
        ping_every_s: seconds between pings on an idle connection; infinity for never.
        is_spared: ask the server not to close these connections for what other clients leave unread.

    Raises:
        shared.settings.SettingsError: a file of certificates that the address names cannot be used.
    """
    idle = IdleSchedule(ping_every_s)
    url, made_with = options(url, timeout_s, idle, is_spared, is_async=False)
    if redis_url.is_sentinel(url):
        client = sentinel.connect(redis_url.parse_sentinel(url), made_with)
    else:
        client = redis.Redis.from_pool(Pool.from_url(url, **made_with))
    client.connection_pool.idle = idle  # type: ignore[attr-defined]  # the links look after themselves by it
    return client


def connect_async(
    url: str, timeout_s: float = 3.0, ping_every_s: float = PING_EVERY_S, *, is_spared: bool = False
) -> redis.asyncio.Redis:
    """Make an asynchronous client; see :func:`connect`."""
    idle = IdleSchedule(ping_every_s)
    url, made_with = options(url, timeout_s, idle, is_spared, is_async=True)
    if redis_url.is_sentinel(url):
        client = sentinel.connect_async(redis_url.parse_sentinel(url), made_with)
    else:
        client = redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool.from_url(url, **made_with))
    client.connection_pool.idle = idle  # type: ignore[attr-defined]  # the links look after themselves by it
    return client

"""Clients of a primary behind Sentinels [I/O]: every new connection asks them where the primary is.

redis-py's pools do the rest: a connection that was lost, or led to a server that is a replica by now, is opened again
by asking. Its own way of asking is not used: the error it ends with shows the insides of every client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.connection import parse_url
from redis.exceptions import ConnectionError, RedisError
from redis.sentinel import SentinelConnectionPool

from shared.redis_url import SentinelAddress

from .pool import Fresh

ASK_TIMEOUT_S = 1.0
"""A Sentinel that stays silent for longer is passed over."""

_QUESTION = "SENTINEL GET-MASTER-ADDR-BY-NAME"


class _Sentinels:
    """The Sentinels of one service, and the options of connections to them."""

    def __init__(self, address: SentinelAddress, options: Mapping[str, Any]) -> None:
        self._sentinels, self._options = list(address.sentinels), options
        self._places = ", ".join(f"{host}:{port}" for host, port in address.sentinels)

    def _each(self) -> Iterator[dict[str, Any]]:
        """What to connect with, one Sentinel after the other; the one that knew last time comes first."""
        for host, port in list(self._sentinels):
            yield {"host": host, "port": port, **self._options}

    def _knew(self, host: str, port: int) -> None:
        # A new list: several threads may be asking.
        self._sentinels = [(host, port), *(one for one in self._sentinels if one != (host, port))]

    def _nobody_knows(self, service: str, failures: Sequence[RedisError]) -> ConnectionError:
        if len(failures) < len(self._sentinels):
            return ConnectionError(f"The Sentinels at {self._places} know no service {service!r}.")
        why = str(failures[-1]).rstrip(".") or type(failures[-1]).__name__
        return ConnectionError(f"No Sentinel at {self._places} says where {service!r} is ({why}).")


class _SyncSentinels(_Sentinels):
    def discover_master(self, service: str) -> tuple[str, int]:
        """Ask where the primary is; redis-py's pool calls this for each new connection."""
        failures: list[RedisError] = []
        for place in self._each():
            try:
                with redis.Redis(**place) as client:
                    found: Any = client.execute_command(_QUESTION, service)
            except RedisError as error:
                failures.append(error)
                continue
            if found:
                self._knew(place["host"], place["port"])
                return found[0], int(found[1])
        raise self._nobody_knows(service, failures)


class _AsyncSentinels(_Sentinels):
    async def discover_master(self, service: str) -> tuple[str, int]:
        """As above."""
        failures: list[RedisError] = []
        for place in self._each():
            client = redis.asyncio.Redis(**place)
            try:
                found: Any = await client.execute_command(_QUESTION, service)
            except RedisError as error:
                failures.append(error)
                continue
            finally:
                await client.aclose()
            if found:
                self._knew(place["host"], place["port"])
                return found[0], int(found[1])
        raise self._nobody_knows(service, failures)


class _Pool(Fresh, SentinelConnectionPool):
    """Connections to the primary."""


def connect(address: SentinelAddress, options: Mapping[str, Any]) -> redis.Redis:
    """Make a synchronous client of the primary.

    Args:
        options: of each connection to the primary.
    """
    ours, theirs = _options(address, options)
    sentinels = _SyncSentinels(address, theirs)
    return redis.Redis.from_pool(_Pool(address.service, sentinels, **ours))  # type: ignore[no-untyped-call]


def connect_async(address: SentinelAddress, options: Mapping[str, Any]) -> redis.asyncio.Redis:
    """Make an asynchronous client of the primary."""
    ours, theirs = _options(address, options)
    sentinels = _AsyncSentinels(address, theirs)
    return redis.asyncio.Redis.from_pool(AsyncSentinelConnectionPool(address.service, sentinels, **ours))


def _options(address: SentinelAddress, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options for connections to the primary and to the Sentinels, which have passwords of their own."""
    asked: dict[str, Any] = parse_url(f"redis://sentinel/?{address.query}")
    del asked["host"]
    login = {name: asked.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    ours = {**asked, "username": address.username, "password": address.password, "db": address.db, **options}
    timeout_s = min(ASK_TIMEOUT_S, options["socket_timeout"])
    theirs = {
        **{name: value for name, value in asked.items() if name.startswith("ssl_")},
        **login,
        "retry": options["retry"],
        "protocol": 2,
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    if address.is_tls:
        ours["ssl"] = theirs["ssl"] = True
    return ours, theirs

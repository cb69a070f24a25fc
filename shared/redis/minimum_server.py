"""Whether the server that an address leads to is one that Headrace can use [I/O]; asked where a process starts."""

from __future__ import annotations

from typing import Any

from shared.settings import Settings, SettingsError

from .advice import CLUSTER
from .client import RedisError, connect

_LIMIT_S = 1.0


def check_server(settings: Settings) -> None:
    """Refuse a server in cluster mode. Accept one that does not answer, or does not say: it may come back.

    Raises:
        SettingsError: it is in cluster mode, or a file that its address names cannot be used.
    """
    try:
        with connect(settings.redis_address, _LIMIT_S) as client:
            check_client(client)
    except (RedisError, OSError):
        return


def check_client(client: Any) -> None:
    """As :func:`check_server`, with a client of it.

    Raises:
        SettingsError: it is in cluster mode.
        shared.redis.RedisError: it does not answer, or this user may not ask.
    """
    if client.info("cluster").get("cluster_enabled") == 1:
        raise SettingsError(f"HEADRACE_REDIS_URL: {CLUSTER}.")

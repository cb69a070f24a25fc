"""The options of every connection to Redis, and pools that check an unused connection before its next use [I/O].

redis-py's defaults do not suit a queue: it repeats commands that may already have taken effect (a lost XADD would
enter twice), and cuts blocking reads at five seconds. Here nothing is repeated automatically and timeouts are explicit.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError
from redis.retry import Retry

from shared import files
from shared.files import FileRefused
from shared.net.certificates import check_address

from .advice import told
from .idle import IdleSchedule

NAME = "headrace"

# Every model has its own connections, so the library's limit of 100 would stop at about thirty models.
_COMMON: dict[str, Any] = {
    "protocol": 2,
    "decode_responses": False,
    "health_check_interval": 0,
    "socket_read_size": 256 * 1024,  # a picture in one or two system calls
    "max_connections": 100_000,
    "driver_info": None,  # else each connection begins with CLIENT SETINFO, which no role may do and Redis 7.0 lacks
}

# The name tells operators which process is connected. And a connection must begin with some answer: in TLS 1.3 a server
# sends tickets unasked, which the library would mistake for an answer. Spared connections are not closed for what
# other clients leave unread (maxmemory-clients).
_NAMED = ("CLIENT", "SETNAME", NAME)
_SPARED = ("CLIENT", "NO-EVICT", "ON")


def options(
    url: str, timeout_s: float, idle: IdleSchedule, is_spared: bool, *, is_async: bool
) -> tuple[str, dict[str, Any]]:
    """Split an address into the part that the library reads, and the options of its connections.

    Raises:
        SettingsError: a file of certificates that the address names cannot be used.
    """
    check_address(url)
    rest, made_with = password_file(url)
    greeting = (_NAMED, _SPARED) if is_spared else (_NAMED,)
    made_with |= {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": (AsyncRetry if is_async else Retry)(NoBackoff(), 0),
        "redis_connect_func": _greet_async(greeting) if is_async else _greet(greeting),
        **_COMMON,
    }
    if not url.startswith("unix"):
        made_with |= {"socket_keepalive": True}
        if keep_alive := idle.socket_options():
            made_with["socket_keepalive_options"] = keep_alive
    return rest, made_with


class _PasswordFile(CredentialProvider):
    """A user whose password is in a file, read for each new connection: it may change while the process runs."""

    def __init__(self, user: str, path: str) -> None:
        self._user, self._path = user, path

    def get_credentials(self) -> tuple[str, str]:
        try:
            return self._user, files.read_text(self._path, files.SECRET_BYTES).strip()
        except FileRefused as error:
            raise AuthenticationError(f"The password file {files.shown(self._path)} cannot be read: {error}.") from None

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


def password_file(url: str) -> tuple[str, dict[str, Any]]:
    """Take the parameter ``password_file`` out of an address; return the rest, and options for the client."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    path = query.pop("password_file", None)
    if path is None:
        return url, {}
    # Not by urlunsplit, which leaves the slashes of unix:// out.
    rest = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?' if query else ''}{urlencode(query)}"
    return rest, {"credential_provider": _PasswordFile(unquote(parts.username or "default"), path)}


def _greet(greeting: tuple[tuple[str, ...], ...]) -> Callable[[Any], None]:
    """Return what a connection does once it is open: log in, choose the database, then what it can do without."""

    def greet(connection: Any) -> None:
        try:
            connection.on_connect()
        except ResponseError as error:
            raise _not_let_in(error, connection) from None
        for command in greeting:
            connection.send_command(*command, check_health=False)
            try:
                connection.read_response()
            except ResponseError as error:
                _pass_over(error)

    return greet


def _greet_async(greeting: tuple[tuple[str, ...], ...]) -> Callable[[Any], Awaitable[None]]:
    """As above."""

    async def greet(connection: Any) -> None:
        try:
            await connection.on_connect()
        except ResponseError as error:
            raise _not_let_in(error, connection) from None
        for command in greeting:
            await connection.send_command(*command, check_health=False)
            try:
                await connection.read_response()
            except ResponseError as error:
                _pass_over(error)

    return greet


def _pass_over(error: ResponseError) -> None:
    """Pass over the answer of a server, or of the rules of a user, without that command; not that of a closed door.

    Raises:
        ConnectionError: the server closes the connection.
    """
    if str(error).startswith(("DENIED", "max number of clients")):
        raise ConnectionError(told(error)) from None


def _not_let_in(error: ResponseError, connection: Any) -> Exception:
    """Return the error of a connection that could log in and could not choose its database."""
    if not connection.db:
        return error
    return ConnectionError(
        f"Database {connection.db} cannot be used ({str(error).rstrip('.')}): take database 0, or one that the server "
        "has and this user may SELECT (`headrace acl write --database`)."
    )


class Fresh:
    """Mixin of a pool of synchronous connections: reopens a connection that was unused for long, before its next use.

    Attributes:
        idle: how long is long.
    """

    idle = IdleSchedule()

    def get_connection(self, *named: Any, **options: Any) -> Any:
        """Take a connection out of the pool."""
        connection = super().get_connection(*named, **options)  # type: ignore[misc]
        since_s = getattr(connection, "unused_since_s", None)
        if since_s is not None and self.idle.is_due(time.monotonic() - since_s):
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection

    def release(self, connection: Any) -> None:
        """Give a connection back."""
        connection.unused_since_s = time.monotonic() if connection.is_connected else None
        super().release(connection)  # type: ignore[misc]


class Pool(Fresh, redis.ConnectionPool):
    """Connections to a server that an address names."""

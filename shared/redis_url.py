"""Addresses of Redis: those that name Sentinels are read here, and each can be shown without its secrets. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
SCHEMES = ("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES)
SENTINEL_PORT = 26379

_UNREADABLE = (
    "a port is a number up to 65535, and in user and password / ? # @ : [ are written as %2F %3F %23 %40 %3A %5B"
)


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """What an address such as ``redis+sentinel://user:password@one:26379,two:26379/service/0?option=value`` says.

    Attributes:
        sentinels: host and port of each Sentinel.
        service: the name that they know the primary by.
        db: number of the database.
        is_tls: both the Sentinels and the servers are spoken to in TLS.
        username, password: for the servers.
        query: what stands behind the question mark.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int
    is_tls: bool
    username: str | None
    password: str | None = field(repr=False)
    query: str = field(repr=False)


def is_sentinel(url: str) -> bool:
    """Say whether the address names Sentinels, who know where the primary is."""
    return url.startswith(SENTINEL_SCHEMES)


def parse_sentinel(url: str) -> SentinelAddress:
    """Read an address that names Sentinels.

    Raises:
        ValueError: it is not of that form; the message is the end of a sentence and shows no secret.
    """
    parts = _split(url)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    service, _, db = parts.path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("it must name the service behind the Sentinels, as in redis+sentinel://host:26379/service")
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError("what follows the service must be the number of a database")
    return SentinelAddress(
        tuple(_host_and_port(one) for one in hosts.split(",")),
        unquote(service),
        int(db or 0),
        parts.scheme == "rediss+sentinel",
        unquote(username) or None,
        unquote(password) or None,
        parts.query,
    )


def _host_and_port(text: str) -> tuple[str, int]:
    parts = _split(f"//{text}")
    if not parts.hostname:
        raise ValueError("each Sentinel must have a host")
    return parts.hostname, _port(parts) or SENTINEL_PORT


def check(url: str) -> None:
    """Refuse an address that cannot be read.

    Raises:
        ValueError: the message is the end of a sentence and shows no secret.
    """
    parts = _split(url)
    if "#" in url or "@" in parts.path:
        raise ValueError("special characters of user and password must be written as %XX")
    if is_sentinel(url):
        parse_sentinel(url)
    else:
        _port(parts)


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # its sentence may show the password
        raise ValueError(_UNREADABLE) from None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # what is taken for the port is the beginning of a password with a slash in it
        raise ValueError(_UNREADABLE) from None


def shown(url: str) -> str:
    """Return the address without user, password and options, any of which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

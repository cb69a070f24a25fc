"""Addresses of Redis: those that name Sentinels are read here, and each can be shown without its secrets. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
SCHEMES = ("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES)
SENTINEL_PORT = 26379


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
    parts = urlsplit(url)
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
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("each Sentinel must have a host")
    try:
        return parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:  # its sentence shows what stands there, which may be a password
        raise ValueError("behind a Sentinel's colon there must be the number of its port") from None


def shown(url: str) -> str:
    """Return the address without user, password and options, any of which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

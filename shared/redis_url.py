"""Addresses of Redis: those that name Sentinels are read here, and each can be shown without its secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urlsplit

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
SCHEMES = ("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES)
SENTINEL_PORT = 26379

OPTIONS = (
    "db",
    "username",
    "password",
    "password_file",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "sentinel_username",
    "sentinel_password",
)
"""Parameters that are allowed after the question mark. The library accepts more, and some would change what it does."""

MOST_HOST = 253
_CHOICES = {"ssl_cert_reqs": ("none", "optional", "required"), "ssl_check_hostname": ("true", "false")}
_OPTION = re.compile(r"[a-z_]{1,32}\Z")
_NUMBER = re.compile(r"[0-9]{1,6}\Z")
_HOST = re.compile(r"[\w.-]+\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

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
    """Say whether the address names Sentinels, which know where the primary is."""
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


def _check_brackets(text: str) -> None:
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError("an IPv6 address must be in brackets, as in [::1]:6379")


def _host_and_port(text: str) -> tuple[str, int]:
    _check_brackets(text)
    parts = _split(f"//{text}")
    if not parts.hostname:
        raise ValueError("each Sentinel must have a host")
    return parts.hostname, _port(parts) or SENTINEL_PORT


def check(url: str) -> None:
    """Refuse an address that cannot be used, whatever is wrong with it.

    Raises:
        ValueError: the message is the end of a sentence that names the part. It shows no secret, and nothing of what
            stands where a part of a password may stand.
    """
    parts = _split(url)
    if "#" in url or "@" in parts.path or "@" in parts.query:
        raise ValueError("special characters of user and password must be written as %XX, and @ in an option as %40")
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("there are spaces or characters that cannot be printed in it; write them as %XX")
    _check_escapes(url)
    options = _options(parts)
    if is_sentinel(url):
        parse_sentinel(url)
        for one in parts.netloc.rpartition("@")[2].split(","):
            _check_place(one)
    elif parts.scheme == "unix":
        _check_socket(parts)
    else:
        _check_place(parts.netloc.rpartition("@")[2])
        _check_database(parts.path.removeprefix("/"), options)
    if is_sentinel(url) and "db" in options:
        raise ValueError("the number of the database follows the service, as in /service/0, and is no option")
    _check_options(options, is_tls=parts.scheme.startswith("rediss"), is_sentinel=is_sentinel(url))


def _check_escapes(url: str) -> None:
    if "%00" in url:
        raise ValueError("there is a character in it that cannot be there, %00")
    if _BAD_ESCAPE.search(url):
        raise ValueError("a percent sign must be followed by two hexadecimal digits; itself it is written %25")
    try:
        unquote_to_bytes(url).decode()
    except UnicodeDecodeError:
        raise ValueError("its escapes (%XX) must be UTF-8") from None


def _check_place(text: str) -> None:
    """Refuse what cannot be a host and perhaps a port; ``text`` is behind user and password."""
    _check_brackets(text)
    parts = _split(f"//{text}")
    if not parts.hostname:
        raise ValueError("it must name a host, as in redis://localhost:6379/0")
    if _port(parts) == 0:
        raise ValueError("a port is a number from 1 to 65535")
    if not text.startswith("[") and not _is_host(unquote(parts.hostname)):
        raise ValueError("the host must be a name or an address, of letters, digits, dots, - and _")


def _is_host(name: str) -> bool:
    try:
        return _HOST.match(name) is not None and len(name.encode("idna")) <= MOST_HOST
    except UnicodeError:  # a part of it is empty, or longer than 63 characters
        return False


def _check_socket(parts: SplitResult) -> None:
    if parts.netloc.rpartition("@")[2] or not parts.path.removeprefix("/"):
        raise ValueError("unix:// is followed by the whole path of a socket, as in unix:///run/redis.sock")


def _check_database(text: str, options: Mapping[str, str]) -> None:
    if not text:
        return
    if not _NUMBER.match(text):
        raise ValueError("what follows the host must be the number of a database, as in /0")
    if "db" in options:
        raise ValueError("the database is named twice: behind the host and by the option db")


def _options(parts: SplitResult) -> dict[str, str]:
    """Return the options behind the question mark.

    Raises:
        ValueError: one is not of the form name=value, or is there twice.
    """
    found: dict[str, str] = {}
    for one in parts.query.split("&") if parts.query else ():
        name, equals, value = one.partition("=")
        if not _OPTION.match(name):
            raise ValueError("options have the form name=value, with & between them")
        if not equals or not value:
            raise ValueError(f"the option {name} has no value")
        if name in found:
            raise ValueError(f"the option {name} is there twice")
        found[name] = unquote(value.replace("+", " "))
    return found


def _check_options(options: Mapping[str, str], *, is_tls: bool, is_sentinel: bool) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise ValueError(f"there is no option {name}; there are {', '.join(OPTIONS)}")
        if name.startswith("ssl_") and not is_tls:
            raise ValueError(f"the option {name} is for an address that begins with rediss")
        if name.startswith("sentinel_") and not is_sentinel:
            raise ValueError(f"the option {name} is for an address that names Sentinels")
        if name == "db" and not _NUMBER.match(value):
            raise ValueError("the option db must be the number of a database")
        if name in _CHOICES and value.lower() not in _CHOICES[name]:
            raise ValueError(f"the option {name} must be one of {', '.join(_CHOICES[name])}")


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # its sentence may show the password
        raise ValueError(_UNREADABLE) from None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # the supposed port is the beginning of a password that contains a slash
        raise ValueError(_UNREADABLE) from None


def shown(url: str) -> str:
    """Return the address without user, password and options, any of which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

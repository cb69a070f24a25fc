"""Which URLs and addresses the front end may open a connection to because a client asks for it. Pure.

A client that may name an address borrows the front end's place in the network: what only the machine itself, its
neighbours or its cloud's metadata service should answer must stay out of reach (server-side request forgery).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from shared.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_URL_CHARACTERS: Final = 2048
FIRST_FREE_PORT: Final = 1024

# Of 1024 and above: what browsers do not connect to (https://fetch.spec.whatwg.org/#port-blocking), Redis, memcached.
_PORTS_OF_OTHERS: Final = frozenset(
    (1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697,
     10080, 11211, 26379)
)  # fmt: skip
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses that stand for the IPv4 address in their last 32 bits (RFC 6052)."""

_SPECIAL: Final = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))
"""Reserved for protocols (RFC 6890), of which Python counts some addresses as global."""


class AddressRefused(ValueError):
    """A URL or an address that must not be connected to; the message is one sentence that begins in lower case."""


@dataclass(frozen=True, slots=True)
class Target:
    """An ``http`` or ``https`` URL that may be asked, if its name leads to addresses that may be.

    Attributes:
        host: name in ASCII and lower case, or address; IPv6 without brackets.
        path: path and query, never empty.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host, in brackets if it is IPv6, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL, in ASCII."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def origin(self) -> str:
        """Scheme, host and port as in an allow list: ``https://example.org``, ``http://127.0.0.1:8080``."""
        return f"{self.scheme}://{self.authority}"

    def join(self, location: str) -> Target:
        """Return where a ``Location`` header leads from here; it must be checked like any other.

        Raises:
            AddressRefused: not a URL that may be asked.
        """
        return parse(urljoin(self.url, location))


def parse(url: str) -> Target:
    """Read a URL.

    Names outside ASCII become punycode. Neither credentials nor a fragment may be in it, and the port must be
    80, 443 or one from 1024 that belongs to no other well-known protocol.

    Raises:
        AddressRefused: not such a URL; no name is looked up here.
    """
    if len(url) > MOST_URL_CHARACTERS:
        raise AddressRefused(f"the URL is longer than {MOST_URL_CHARACTERS:,} characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise AddressRefused("a URL contains no spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise AddressRefused("this is not a valid URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise AddressRefused("the URL must begin with https:// or http://")
    if not host or parts.netloc.endswith(":"):
        raise AddressRefused("the URL names no host, or an empty port")
    if "@" in parts.netloc:
        raise AddressRefused("the URL must not contain a user name or a password")
    if parts.fragment or url.endswith("#"):
        raise AddressRefused("the URL must not have a fragment (#)")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if (port < FIRST_FREE_PORT and port not in _DEFAULT_PORTS.values()) or port in _PORTS_OF_OTHERS:
        raise AddressRefused(f"port {port} is not one of web servers: use 443, 80, or another one from 1024")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]") if parts.query else ""
    )
    target = Target(parts.scheme, _ascii(host), port, path)
    literal = _literal(target.host)
    if len(target.url) > MOST_URL_CHARACTERS:
        raise AddressRefused(f"the URL is longer than {MOST_URL_CHARACTERS:,} characters in ASCII")
    return target if literal is None else Target(target.scheme, str(literal), port, path)


def _ascii(host: str) -> str:
    if "%" in host:
        raise AddressRefused("the host must not contain a zone or escapes (%)")
    if ":" in host:
        return host.lower()
    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        raise AddressRefused("the host is not a valid name") from None
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise AddressRefused("the host is not a valid name")
    # What ends in a number is an address, and resolvers know forms of it such as 127.1 and 0x7f.1.
    if _NUMBER.match(name.rpartition(".")[2]) and _literal(name) is None:
        raise AddressRefused("the host is not a valid address")
    return name


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if ":" in host:
            raise AddressRefused("the host is not a valid address") from None
        return None


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv4-mapped IPv6 address is, else the address itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public internet: neither private, nor of this machine, link or site, nor
    multicast or reserved, nor a detour to such a one (IPv4-mapped, NAT64, 6to4, Teredo)."""
    address = unwrapped(address)
    if isinstance(address, ipaddress.IPv4Address):
        special = any(address in network for network in _SPECIAL)
        return address.is_global and not (address.is_multicast or address.is_reserved or special)
    within = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address.sixtofour
    if within is not None:
        return is_public(within)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_site_local)


_PRIVATE_ENDINGS: Final = (".localhost", ".local", ".internal", ".home.arpa")
"""Names below these are never public (RFC 6761, 6762, 8375; ``.internal`` is set aside by ICANN)."""


class Policy:
    """Which addresses may be connected to: public ones, and those in networks that the operator allows.

    Args:
        allowed: networks, although they are not public.
    """

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return that of the settings."""
        return cls(map(ipaddress.ip_network, settings.private_networks or ()))

    def check(self, host: str, address: Address) -> None:
        """Let an address pass to which a host leads.

        Raises:
            AddressRefused: it may not be connected to.
        """
        address = unwrapped(address)
        if not is_public(address) and not any(address in network for network in self._allowed):
            leads = f"{host} leads to {address}, which" if host != str(address) else f"{address}"
            raise AddressRefused(f"{leads} is not a public address, and HEADRACE_PRIVATE_NETWORKS does not allow it")

    def check_literal(self, target: Target) -> None:
        """Let a target pass whose host is a name, or an address that may be connected to. Looks no name up.

        Raises:
            AddressRefused: its host is another address, a name of this machine, or one that is never public while no
                private network is allowed.
        """
        private = "." not in target.host or target.host.endswith(_PRIVATE_ENDINGS)
        if private and ":" not in target.host and not self._allowed:
            raise AddressRefused(
                f"{target.host} is a name of private networks, and HEADRACE_PRIVATE_NETWORKS is not set"
            )
        is_here = target.host == "localhost" or target.host.endswith(".localhost")
        literal = ipaddress.IPv4Address("127.0.0.1") if is_here else _literal(target.host)
        if literal is not None:
            self.check(target.host, literal)

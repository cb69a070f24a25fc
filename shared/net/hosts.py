"""Which names a front end has. Pure.

A page of another origin can make its name mean 127.0.0.1 ("DNS rebinding"), and then ask as if it came from here. The
browser still sends that name as Host, so a front end that asks for no key answers to its own names only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from shared.settings import Settings


class Hosts:
    """The ``Host`` names that a front end accepts.

    Args:
        listed: names of the setting in lower case; ``*.example.org`` means all below it, ``*`` any.
        inside: also accept IP addresses and names without a dot, such as container services: no web page can have
            such a name.
    """

    def __init__(self, listed: Iterable[str] = (), *, inside: bool = False) -> None:
        names = frozenset(listed)
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._endings = tuple(name.removeprefix("*") for name in names if name.startswith("*."))
        self._any, self._inside = "*" in names, inside
        self.allows = lru_cache(maxsize=64)(self._allows)

    def _allows(self, host: bytes) -> bool:
        """Say whether to answer requests for this well-formed Host; its port does not matter."""
        name = name_of(host.decode("latin-1"))
        if self._any or name == "localhost" or name in self._names or name.endswith(self._endings):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return self._inside and "." not in name
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._inside or address.is_loopback


def name_of(host: str) -> str:
    """Return the name in ``name``, ``name:port``, ``[address]`` or ``[address]:port``, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def of_settings(settings: Settings) -> Hosts | None:
    """Return the names to answer to; None for any.

    With keys any will do, as long as none are listed: a page that borrows a name has no key to send. Without keys the
    front end is for this machine, or, where anonymous use is allowed, for the network it is in.
    """
    if settings.allowed_hosts is None and settings.keys_file is not None:
        return None
    inside = settings.keys_file is not None or bool(settings.allow_anonymous)
    return Hosts((*(settings.allowed_hosts or ()), name_of(settings.host)), inside=inside)

"""Connections of the library, which shows nobody its sockets: they are found among the files of the process [I/O].

A call can be refused and cannot be cut off, so a client that reads no answer could make this process hold as many as it
likes. Ending its connection ends its calls.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

_OPEN: Final = "/proc/self/fd"
_PEER: Final = re.compile(r"ipv[46]:\[?([0-9a-fA-F.:]+?)(?:%[^\]]*)?\]?:(\d+)\Z")

Address = tuple[IPv4Address | IPv6Address, int]


def address_of(peer: str) -> Address | None:
    """Return host and port of a peer as the library writes it, such as ``ipv4:127.0.0.1:4711``; None if it has none."""
    found = _PEER.match(unquote(peer))
    return None if found is None else _plain(found[1], int(found[2]))


def end(peer: str) -> bool:
    """End the connection of a peer in both directions; says whether there was one.

    Where there is no ``/proc``, nothing is found.
    """
    address, ended = address_of(peer), False
    for descriptor in _sockets():
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(descriptor)) as one:
            if one.family in (socket.AF_INET, socket.AF_INET6) and _plain(*one.getpeername()[:2]) == address:
                one.shutdown(socket.SHUT_RDWR)
                ended = True
    return ended


def _plain(host: str, port: int) -> Address:
    """Return an address in one form: a listener for both families shows one of IPv4 as one of IPv6."""
    found = ip_address(host.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found, port


def _sockets() -> Iterator[int]:
    try:
        names = os.listdir(_OPEN)
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                yield int(name)

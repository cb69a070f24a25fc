"""A listening socket, for the servers of ours that make their own [I/O]."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Final

MOST_WAITING: Final = 4096
"""As many as the kernel queues; the limit ends the loop even if clients keep connecting."""


def can_share() -> bool:
    """Say whether several processes can have one port and the kernel deals its connections out to them.

    Elsewhere the option exists, too, but there the process that came last gets them all.
    """
    return sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")


def bind(host: str, port: int, *options: tuple[int, int, int], shared: bool = False) -> socket.socket:
    """Take an address without listening on it yet: it gets no connections before that.

    Args:
        port: 0 takes any free one.
        options: of the socket, as ``setsockopt`` takes them; each connection inherits them.
        shared: share it with other processes of this user that do so too; otherwise no other process may listen on it.

    Raises:
        OSError: the address cannot be taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        own = [(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)]
        if shared:
            own.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
        for option in (*own, *options):
            listener.setsockopt(*option)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def listen(host: str, port: int, backlog: int, *options: tuple[int, int, int]) -> socket.socket:
    """Take an address as :func:`bind` does, and listen on it.

    Raises:
        OSError: the address cannot be taken.
    """
    listener = bind(host, port, *options)
    try:
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def end(listener: socket.socket) -> list[socket.socket]:
    """Listen no more, and return the connections that waited to be accepted, which closing alone would reset.

    There is no way to do both at once: one that comes between the last look and the end is lost, a few microseconds.
    """
    waiting: list[socket.socket] = []
    with suppress(OSError):  # nothing waits any more, or there is no file left for it
        listener.setblocking(False)
        while len(waiting) < MOST_WAITING:
            waiting.append(listener.accept()[0])
    with suppress(OSError):  # other systems than Linux know no such end
        listener.shutdown(socket.SHUT_RDWR)
    return waiting

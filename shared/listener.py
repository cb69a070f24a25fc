"""A listening socket, for the servers of ours that make their own [I/O]."""

from __future__ import annotations

import socket


def listen(host: str, port: int, backlog: int, *options: tuple[int, int, int]) -> socket.socket:
    """Take an address and listen on it.

    Args:
        port: 0 takes any free one.
        options: of the socket, as ``setsockopt`` takes them; each connection inherits them.

    Raises:
        OSError: the address cannot be taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        for option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options):
            listener.setsockopt(*option)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener

"""Sockets that listen, alone or beside others."""

from __future__ import annotations

import errno
import socket

import pytest

from shared.net.listener import bind, can_share, end, listen
from shared.redis.embedded import free_port

HOST = "127.0.0.1"
needs_sharing = pytest.mark.skipif(not can_share(), reason="this system deals no port out")


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_a_port_that_is_taken_and_not_listened_on_refuses_connections() -> None:
    with bind(HOST, 0) as taken:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port_of(taken)))
        taken.listen(1)
        socket.create_connection((HOST, port_of(taken))).close()


def test_nobody_else_has_a_port_that_is_not_shared() -> None:
    with listen(HOST, 0, 1) as first:
        for shared in (False, True):
            with pytest.raises(OSError, match=str(errno.EADDRINUSE)) as raised:
                bind(HOST, port_of(first), shared=shared)
            assert raised.value.errno == errno.EADDRINUSE


@needs_sharing
def test_those_that_share_get_a_part_of_the_connections_each() -> None:
    port = free_port()
    with bind(HOST, port, shared=True) as first, bind(HOST, port, shared=True) as second:
        first.listen(64)
        second.listen(64)
        opened = [socket.create_connection((HOST, port)) for _ in range(64)]
        accepted = [end(listener) for listener in (first, second)]
        assert len(accepted[0]) + len(accepted[1]) == 64
        assert min(map(len, accepted)) > 0
        for one in (*opened, *accepted[0], *accepted[1]):
            one.close()


@needs_sharing
def test_who_shares_and_does_not_listen_yet_gets_none() -> None:
    port = free_port()
    with bind(HOST, port, shared=True) as first, bind(HOST, port, shared=True):
        first.listen(64)
        opened = [socket.create_connection((HOST, port)) for _ in range(32)]
        accepted = end(first)
        assert len(accepted) == 32
        for one in (*opened, *accepted):
            one.close()


def test_the_end_brings_every_connection_that_waits_and_no_more_come() -> None:
    with listen(HOST, 0, 8) as listener:
        opened = [socket.create_connection((HOST, port_of(listener))) for _ in range(5)]
        for number, one in enumerate(opened):
            one.sendall(b"%d" % number)
        waiting = end(listener)
        assert sorted(one.recv(1) for one in waiting) == [b"%d" % number for number in range(5)]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port_of(listener)))
        for one in (*opened, *waiting):
            one.close()
        assert end(listener) == []  # once more is no error

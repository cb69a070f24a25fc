"""Connections are found by the names that the library has for their peers, and ended."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from producer_api.grpc import connections


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", "127.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1"),
    ],
)
def test_a_peer_has_an_address(peer: str, host: str) -> None:
    assert connections.address_of(peer) == (ip_address(host), 4711)


@pytest.mark.parametrize("peer", ["unix:/tmp/x", "", "ipv4:127.0.0.1", "nonsense"])
def test_another_has_none(peer: str) -> None:
    assert connections.address_of(peer) is None


@pytest.mark.parametrize("is_dual", [False, True])
def test_only_the_connection_of_that_peer_is_ended(is_dual: bool) -> None:
    if is_dual and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6")
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    with socket.create_server(("" if is_dual else "127.0.0.1", 0), family=family, dualstack_ipv6=is_dual) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as one, socket.create_connection(("127.0.0.1", port)) as two:
            first, second = server.accept()[0], server.accept()[0]
            with first, second:
                assert connections.end(f"ipv4:127.0.0.1:{one.getsockname()[1]}")
                one.settimeout(10)
                assert one.recv(1) == b""
                second.sendall(b"x")
                assert two.recv(1) == b"x"
    assert not connections.end("ipv4:127.0.0.1:1")

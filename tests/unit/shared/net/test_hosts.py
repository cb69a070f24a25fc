"""Which names a front end answers to."""

from __future__ import annotations

import pytest

from shared.net.hosts import Hosts, name_of, of_settings
from shared.settings import Settings

LOOPBACK = [
    b"localhost",
    b"localhost:8000",
    b"LocalHost:1",
    b"localhost.",
    b"127.0.0.1",
    b"127.0.0.1:8000",
    b"127.255.0.9",
    b"[::1]",
    b"[::1]:8000",
    b"[::ffff:127.0.0.1]:80",
]
INSIDE = [b"api:8000", b"producer_api", b"10.0.0.7:8000", b"[fd00::7]", b"192.168.1.9", b"[::ffff:10.0.0.1]"]
ELSEWHERE = [
    b"evil.example",
    b"evil.example:8000",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"127.0.0.1.nip.io",
    b"localhostevil.example",
    b"api.default.svc.cluster.local",
    b"a.localhost.evil.example",
    b"1.2.3.4.5",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_always_meant(host: bytes) -> None:
    assert Hosts().allows(host)
    assert Hosts(inside=True).allows(host)
    assert Hosts(("other.example",)).allows(host)


@pytest.mark.parametrize("host", [*INSIDE, *ELSEWHERE])
def test_on_this_machine_alone_nothing_else_is(host: bytes) -> None:
    assert not Hosts().allows(host)


def test_inside_a_network_addresses_and_bare_names_are() -> None:
    hosts = Hosts(inside=True)
    assert all(hosts.allows(host) for host in INSIDE)
    assert not any(hosts.allows(host) for host in ELSEWHERE)


def test_names_that_are_listed() -> None:
    hosts = Hosts(("api.example.org", "*.cluster.local"))
    assert hosts.allows(b"API.example.org:443")
    assert hosts.allows(b"a.default.svc.cluster.local")
    assert not hosts.allows(b"b.api.example.org")
    assert not hosts.allows(b"cluster.local")
    assert not hosts.allows(b"evilcluster.local")
    assert Hosts(("*",)).allows(b"evil.example")


def test_the_name_alone() -> None:
    assert [name_of(host) for host in ("A.b:1", "[::1]:80", "[FD00::1]", "c.")] == ["a.b", "::1", "fd00::1", "c"]


@pytest.mark.parametrize(
    ("settings", "taken", "refused"),
    [
        (Settings(), [b"localhost"], [b"api", b"evil.example", b"10.0.0.7"]),
        (Settings(allowed_hosts=("evil.example",)), [b"localhost", b"evil.example"], [b"api", b"other.example"]),
        (Settings(host="0.0.0.0", allow_anonymous=1), [b"localhost", b"api", b"10.0.0.7"], [b"evil.example"]),
        (Settings(host="box.lan", allow_anonymous=1), [b"box.lan"], [b"evil.example"]),
        (Settings(keys_file="k", allowed_hosts=("a.example",)), [b"a.example", b"10.0.0.7"], [b"evil.example"]),
    ],
)
def test_what_follows_from_the_settings(settings: Settings, taken: list[bytes], refused: list[bytes]) -> None:
    hosts = of_settings(settings)
    assert hosts is not None
    assert all(hosts.allows(host) for host in taken)
    assert not any(hosts.allows(host) for host in refused)


def test_with_keys_any_name_will_do() -> None:
    assert of_settings(Settings(keys_file="k")) is None

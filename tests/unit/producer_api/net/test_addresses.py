"""Which URLs and addresses may be asked for a client: everything that is not plainly public is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.net.addresses import AddressRefused, Policy, is_public, parse

PRIVATE = (
    "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8"
    " 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1"
    " 255.255.255.255 :: ::1 ::7f00:1 fe80::1 fc00::1 fd00:ec2::254 fec0::1 ff02::1 100::1 2001:db8::1"
    " ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1"
    " 2002:7f00:1:: 2002:a00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2"
)
PUBLIC = "8.8.8.8 1.1.1.1 172.32.0.1 100.128.0.1 2606:4700:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1"


@pytest.mark.parametrize("text", PRIVATE.split())
def test_what_is_not_of_the_public_internet_is_private(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(AddressRefused, match="not a public address"):
        Policy().check("a.example", ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_other_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_hidden_in_another_is_judged_by_itself(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address))) == is_public(address)


def test_names_that_are_never_public_are_refused_without_a_lookup() -> None:
    somewhere = Policy([ipaddress.ip_network("10.1.0.0/16")])
    for host in ("localhost", "a.LocalHost", "redis", "printer.local", "metadata.google.internal", "nas.home.arpa."):
        with pytest.raises(AddressRefused, match="is a name of private networks"):
            Policy().check_literal(parse(f"http://{host}:8080/"))
    for host in ("redis", "hooks.internal", "localhost.example"):
        somewhere.check_literal(parse(f"http://{host}:8080/"))
    with pytest.raises(AddressRefused, match="localhost leads to 127"):
        somewhere.check_literal(parse("http://localhost/"))


def test_allowed_networks_pass_and_no_other() -> None:
    policy = Policy([ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")])
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "8.8.8.8"):
        policy.check("a.example", ipaddress.ip_address(text))
    with pytest.raises(AddressRefused, match=r"a\.example leads to 10\.2\.0\.1, which is not a public address"):
        policy.check("a.example", ipaddress.ip_address("10.2.0.1"))


def test_an_address_in_a_url_is_checked_without_a_lookup() -> None:
    for url in (
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "http://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
    ):
        with pytest.raises(AddressRefused, match="not a public address"):
            Policy().check_literal(parse(url))
    Policy().check_literal(parse("https://hooks.example/a"))


@pytest.mark.parametrize(
    ("url", "ascii"),
    [
        ("https://Hooks.Example/a/b?c=d&e=%2F", "https://hooks.example/a/b?c=d&e=%2F"),
        ("https://hooks.example", "https://hooks.example/"),
        ("http://hooks.example:80/", "http://hooks.example/"),
        ("https://hooks.example.:8443/x", "https://hooks.example:8443/x"),
        ("https://bücher.example/käse?ö=ü", "https://xn--bcher-kva.example/k%C3%A4se?%C3%B6=%C3%BC"),
        ("http://[2606:4700:4700::1111]:8080/", "http://[2606:4700:4700::1111]:8080/"),
        ("http://127.0.0.1:9000/a", "http://127.0.0.1:9000/a"),
        ("https://hooks.example/" + "a" * 1978, "https://hooks.example/" + "a" * 1978),
    ],
)
def test_good_urls_are_read(url: str, ascii: str) -> None:
    target = parse(url)
    assert target.url == ascii
    assert parse(target.url) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with"),
        ("hooks.example/a", "must begin with"),
        ("ftp://hooks.example/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("gopher://hooks.example/", "must begin with"),
        ("https:///a", "no host"),
        ("https://hooks.example:/a", "empty port"),
        ("https://user:secret@hooks.example/", "user name or a password"),
        ("https://user@hooks.example/", "user name or a password"),
        ("https://hooks.example/#part", "fragment"),
        ("https://hooks.example/#", "fragment"),
        ("https://hooks.example:22/", "port 22"),
        ("https://hooks.example:0/", "port 0"),
        ("https://hooks.example:6379/", "port 6379"),
        ("https://hooks.example:70000/", "not a valid URL"),
        ("https://hooks.example:x/", "not a valid URL"),
        ("https://[::1/", "not a valid URL"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://hooks.example/a b", "no spaces"),
        ("https://hooks.example/a\r\nX: y", "no spaces"),
        ("https://hooks.example\\@evil.example/", "no spaces"),
        ("https://hooks..example/", "not a valid name"),
        ("http://127.1/", "not a valid address"),
        ("http://2130706433/", "not a valid address"),
        ("http://0x7f.0.0.1/", "not a valid address"),
        ("http://0177.0.0.1/", "not a valid address"),
        ("http://1.2.3.4.5/", "not a valid address"),
        ("https://-hooks.example/", "not a valid name"),
        ("https://" + "a" * 64 + ".example/", "not a valid name"),
        ("https://" + ".".join(["a" * 60] * 5) + "/", "not a valid name"),
        ("https://hooks.example/" + "a" * 2048, "longer than 2,048"),
        ("https://hooks.example/" + "ä" * 1000, "longer than 2,048 characters in ASCII"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(AddressRefused, match=why):
        parse(url)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, "https://" + text, "http://a.example/" + text):
        try:
            target = parse(url)
        except AddressRefused:
            continue
        assert target.url.isascii()
        assert parse(target.url) == target


def test_a_redirect_is_read_against_the_url_that_it_comes_from() -> None:
    target = parse("https://hooks.example/a/b?c")
    assert target.join("/x").url == "https://hooks.example/x"
    assert target.join("http://127.0.0.1/").host == "127.0.0.1"
    with pytest.raises(AddressRefused, match="must begin with"):
        target.join("file:///etc/passwd")

"""Addresses that name Sentinels: what they say, what is refused, what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies

from shared.redis.client import connect, connect_async
from shared.redis_url import is_sentinel, parse_sentinel, shown
from shared.settings import Settings, SettingsError
from tests.e2e.producer_api.test_tls import certificate


def test_everything_there_is_to_say() -> None:
    address = parse_sentinel("rediss+sentinel://us%40er:p%2Fw@one:1,[::1]:2,three/my%20service/4?sentinel_password=x")
    assert address.sentinels == (("one", 1), ("::1", 2), ("three", 26379))
    assert (address.service, address.db, address.is_tls) == ("my service", 4, True)
    assert (address.username, address.password, address.query) == ("us@er", "p/w", "sentinel_password=x")
    assert "p/w" not in repr(address)


def test_what_need_not_be_said() -> None:
    address = parse_sentinel("redis+sentinel://host/service")
    assert address.sentinels == (("host", 26379),)
    assert (address.db, address.is_tls, address.username, address.password) == (0, False, None, None)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis+sentinel://host:26379", "must name the service"),
        ("redis+sentinel://host:26379/", "must name the service"),
        ("redis+sentinel:///service", "must have a host"),
        ("redis+sentinel://a,,b/service", "must have a host"),
        ("redis+sentinel://host:99999/service", "ort"),
        ("redis+sentinel://host:port/service", "ort"),
        ("redis+sentinel://host/service/one", "number of a database"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_name_of_the_setting(url: str, part: str) -> None:
    with pytest.raises(SettingsError, match=f"^HEADRACE_REDIS_URL is not a valid address: .*{part}") as caught:
        Settings.from_env({"HEADRACE_REDIS_URL": url.replace("//", "//:secret@")})
    assert "secret" not in str(caught.value)


def test_other_addresses_are_not_for_sentinels() -> None:
    assert not is_sentinel("redis://host")
    assert Settings.from_env({"HEADRACE_REDIS_URL": "redis+sentinel://host/service"}).redis_url


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("redis://user:secret@host:1/0", "redis://host:1/0"),
        ("redis://host:1/0?password=secret", "redis://host:1/0"),
        ("redis+sentinel://:secret@a:1,b:2/s/0?sentinel_password=secret@x", "redis+sentinel://a:1,b:2/s/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_what_is_shown_has_no_secrets(url: str, without: str) -> None:
    assert shown(url) == without


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret/Key@host:6379/0",
        "redis://:s3cret#Key@host:6379/0",
        "rediss://me:s3cret?Key@host:6379/0",
        "redis://:[s3cret@host",
        "redis://:s3cret\u2100@host",
        "redis+sentinel://me:s3cret/Key@host:1",
        "redis+sentinel://me:[s3cret@host:1/service",
        "redis+sentinel://me:s3cret@host:s3cret/service",
    ],
)
def test_a_password_that_is_not_escaped_is_not_shown_in_the_complaint(url: str) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_REDIS_URL is not a valid address: ") as caught:
        Settings.from_env({"HEADRACE_REDIS_URL": url})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis://host?foo=bar", "there is no option foo"),
        ("redis://host?protocol=3", "there is no option protocol"),
        ("redis://host?decode_responses=1", "there is no option decode_responses"),
        ("redis://host?db=x", "the option db must be the number"),
        ("redis://host?db=1&db=2", "the option db is there twice"),
        ("redis://host/1?db=2", "named twice"),
        ("redis://host?db", "option db has no value"),
        ("redis://host?=1", "name=value"),
        ("redis://host/abc", "number of a database"),
        ("redis://host/-1", "number of a database"),
        ("redis://host/0/1", "number of a database"),
        ("redis://host:99999", "a port is a number"),
        ("redis://host:0", "a port is a number"),
        ("redis://host:port", "a port is a number"),
        ("redis://", "must name a host"),
        ("redis:///0", "must name a host"),
        ("redis://::1", "in brackets"),
        ("redis://fe80::1:6379", "in brackets"),
        ("redis+sentinel://::1:26379/service", "in brackets"),
        ("redis://one,two", "must be a name or an address"),
        (f"redis://{'a' * 64}", "must be a name or an address"),
        ("redis://a..b", "must be a name or an address"),
        ("redis://host%zz", "two hexadecimal digits"),
        ("redis://host%", "two hexadecimal digits"),
        ("redis://host%ff", "UTF-8"),
        ("unix:///a%00b", "%00"),
        ("redis://host name", "spaces"),
        ("redis://host\n", "spaces"),
        ("unix://run/redis.sock", "the whole path of a socket"),
        ("unix://", "the whole path of a socket"),
        ("redis://host?ssl_ca_certs=/ca.pem", "begins with rediss"),
        ("unix:///run/redis.sock?ssl_ca_certs=/ca.pem", "begins with rediss"),
        ("rediss://host?ssl_cert_reqs=maybe", "must be one of none, optional, required"),
        ("rediss://host?ssl_check_hostname=perhaps", "must be one of true, false"),
        ("redis://host?sentinel_password=x", "names Sentinels"),
        ("redis+sentinel://host/service?db=1", "follows the service"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_the_door_and_the_part_is_named(url: str, part: str) -> None:
    for address in (url, url.replace("://", "://me:s3cret@")):
        with pytest.raises(SettingsError, match=r"^HEADRACE_REDIS_URL is not a valid address: ") as caught:
            Settings.from_env({"HEADRACE_REDIS_URL": address})
        assert part in str(caught.value)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host", "host:6379", "", "REDIS://host", "redis:host", "valkey://host"])
def test_an_unknown_scheme_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(SettingsError, match=r"must start with redis://, .* or rediss\+sentinel://\."):
        Settings.from_env({"HEADRACE_REDIS_URL": url})


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host/",
        "redis://host:1/3",
        "redis://host?db=3",
        "redis://[::1]:6379/0",
        "redis://10.0.0.1",
        "redis://m\u00fcller.example",
        "redis://user:p%40%2F%3F%23%5Bs@host",
        "redis://me@host?password_file=/run/secrets/redis",
        "rediss://host?ssl_ca_certs=CA&ssl_cert_reqs=required&ssl_check_hostname=true",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://:p%40@[::1]:1,two/service/1?sentinel_username=u&sentinel_password=p%40",
        "rediss+sentinel://one/service?ssl_ca_certs=CA",
    ],
)
def test_an_address_that_can_be_used_is_taken(url: str, tmp_path: Path) -> None:
    if "=CA" in url:
        url = url.replace("=CA", f"={certificate(tmp_path, 'authority')[0]}")
    assert Settings.from_env({"HEADRACE_REDIS_URL": url}).redis_url == url
    make_connections(url)


def make_connections(url: str) -> None:
    """Make what is opened later, with every option; nothing is sent."""
    for make in (connect, connect_async):
        make(url).connection_pool.make_connection()


PIECES = [
    *"abz019:/?#[]@!%=&,+-_. é\n\0",
    "db",
    "ssl_ca_certs",
    "password_file",
    "service",
    "%40",
    "%2F",
    "s3cret",
    "::1",
]
ADDRESSES = strategies.builds(
    lambda scheme, pieces: scheme + "".join(pieces),
    strategies.sampled_from(
        ["redis://", "rediss://", "unix://", "unix:///", "redis+sentinel://", "rediss+sentinel://"]
    ),
    strategies.lists(strategies.sampled_from(PIECES), max_size=12),
)


@settings(max_examples=1500, deadline=None)
@given(ADDRESSES)
@example("redis://:s3cret?b=c@host")
@example("redis://a:s3cret&db=x@host?db=y")
def test_whatever_an_address_is_it_is_usable_or_refused_in_one_sentence(url: str) -> None:
    sentence = "HEADRACE_REDIS_URL is fine."
    try:
        Settings.from_env({"HEADRACE_REDIS_URL": url})
        make_connections(url)
    except SettingsError as error:
        sentence = str(error)
    assert sentence.startswith("HEADRACE_REDIS_URL")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    # The name of a file is no secret, and it must be said which one cannot be used.
    assert "s3cret" not in re.sub(r"option ssl_ca_certs: .* cannot be used", "", sentence)


@settings(max_examples=500, deadline=None)
@given(strategies.text(min_size=1, max_size=12), strategies.text(max_size=6))
def test_whatever_a_password_is_no_sentence_shows_it(head: str, tail: str) -> None:
    password = f"{head}s3cret{tail}"
    for url in (
        f"redis://:{password}@host",
        f"redis+sentinel://me:{password}@one,two/service?sentinel_password={password}",
    ):
        sentence = ""
        try:
            Settings.from_env({"HEADRACE_REDIS_URL": url})
            make_connections(url)
        except SettingsError as error:
            sentence = str(error)
        # The name of a file is no secret, and it must be said which one cannot be used.
    assert "s3cret" not in re.sub(r"option ssl_ca_certs: .* cannot be used", "", sentence)

"""Addresses that name Sentinels: what they say, what is refused, what is shown."""

from __future__ import annotations

import pytest

from shared.redis_url import is_sentinel, parse_sentinel, shown
from shared.settings import Settings, SettingsError


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

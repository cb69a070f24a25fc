"""The file of API keys: what it says, and that what is wrong is named without showing a hash."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api_keys import digest_of, new_key, parse

HASH = digest_of(b"hr_a").hex()


def test_a_line_with_everything() -> None:
    limits = "max_in_flight = 3\nexpires = 2030-01-01T00:00:00Z"
    [key] = parse(f'[keys.alice]\nsha256 = "{HASH}"\n{limits}\nlane = "gold"\nconsole = "operate"')
    assert (key.name, key.digest.hex(), key.lane) == ("alice", HASH, "gold")
    assert (key.max_in_flight, key.expires_s, key.console) == (3, 1893456000.0, "operate")


def test_the_shortest_line_has_no_limits() -> None:
    [key] = parse(f'[keys.a]\nsha256 = "{HASH}"')
    assert (key.max_in_flight, key.expires_s, key.console) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "tables"),
        ("[keys]", "at least one"),
        ("keys = 1", "tables"),
        ("[kyes.a]\nsha256 = '{hash}'", "tables"),
        ("[keys.a]\nsha256 = '{hash}'\n[other]", "nothing else"),
        ("[keys.'a b']\nsha256 = '{hash}'", "A name"),
        ("[keys.a]", "keys.a.sha256"),
        ("[keys.a]\nsha256 = '{hash}0'", "keys.a.sha256"),
        ("[keys.a]\nsha256 = 5", "keys.a.sha256"),
        ("[keys.a]\nsha256 = '{hash}'\nmax = 3", "keys.a may have"),
        ("[keys.a]\nsha256 = '{hash}'\nmax_in_flight = 0", "keys.a.max_in_flight"),
        ("[keys.a]\nsha256 = '{hash}'\nmax_in_flight = true", "keys.a.max_in_flight"),
        ("[keys.a]\nsha256 = '{hash}'\nexpires = 2030-01-01T00:00:00", "keys.a.expires"),
        ("[keys.a]\nsha256 = '{hash}'\nexpires = 'soon'", "keys.a.expires"),
        ("[keys.a]\nsha256 = '{hash}'\nlane = 'no name'", "keys.a.lane"),
        ("[keys.a]\nsha256 = '{hash}'\nlane = 5", "keys.a.lane"),
        ("[keys.a]\nsha256 = '{hash}'\nconsole = 'admin'", "keys.a.console"),
        ("[keys.a]\nsha256 = '{hash}'\nconsole = ['read']", "keys.a.console"),
        ("[keys.a]\nsha256 = '{hash}'\n[keys.b]\nsha256 = '{hash}'", "the same key"),
        ("[keys.a]\nsha256 = {hash}", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("a = " + "9" * 5000, "not TOML"),
    ],
)
def test_what_is_wrong_is_named_and_no_hash_shown(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        parse(text.replace("{hash}", HASH))
    assert HASH[:16] not in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse(text)


def test_keys_are_long_and_differ() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"hr_[\w-]{43}", key) for key in made)

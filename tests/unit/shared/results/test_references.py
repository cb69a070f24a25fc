"""What messages say of objects in the result store."""

from __future__ import annotations

import pytest

from shared.results.references import (
    StoredBody,
    StoredReply,
    body_prefix,
    owner_of,
    parse_body,
    parse_reply,
    stored_reply,
)
from shared.results.store import parts_of

SHA = "ab" * 32
BODY = f"0123456789abcdef/{'0a' * 16}:3:20000000:{SHA}"


def test_a_reply_is_named_by_its_request_and_lies_with_its_model_and_lane() -> None:
    place = stored_reply("r" * 64, "0a1b2c3d", 1000)
    assert parse_reply(place.text()) == place
    key = place.key("m" * 64, "l" * 64)
    assert parts_of(key)[:3] == ("results", "m" * 64, "l" * 64)
    assert key.endswith(f"/{'r' * 64}.0a1b2c3d")


def test_the_same_request_is_never_named_twice_alike() -> None:
    assert stored_reply("a", "00000000", 1) != stored_reply("a", "00000001", 1)


@pytest.mark.parametrize(
    "text",
    ["", "aa/x.00000000", "aa/x:1", "aa/../x.00000000:1", "../x.00000000:1", "aa/x.00000000:-1", "aa/x.00000000:1\n"],
)
def test_what_is_no_place_of_a_reply(text: str) -> None:
    assert parse_reply(text) is None


def test_a_body_has_its_parts_in_order() -> None:
    place = parse_body(BODY)
    assert place == StoredBody("0123456789abcdef", "0a" * 16, 3, 20_000_000, SHA)
    assert place.text() == BODY
    prefix = body_prefix("gold", "0123456789abcdef", "0a" * 16)
    assert list(place.keys("gold")) == [f"{prefix}/part-00000{number}" for number in (1, 2, 3)]
    assert all(map(parts_of, place.keys("l" * 64)))


@pytest.mark.parametrize("change", [("/", "/../"), ("0123", "x"), (":3:", "::"), (SHA, SHA[1:]), (":3", "")])
def test_what_is_no_place_of_a_body(change: tuple[str, str]) -> None:
    assert parse_body(BODY.replace(*change)) is None
    assert parse_body(BODY + "\n") is None


def test_an_owner_stands_for_one_key() -> None:
    assert owner_of(b"one") != owner_of(b"another")
    assert len(owner_of(b"")) == 16
    assert StoredReply("aa/x.00000000", 1).text() == "aa/x.00000000:1"

"""What a front end knows of a lane's bytes."""

from __future__ import annotations

import pytest

from producer_api.load.lane_account import LaneAccount
from shared.state.lanes import LaneBytes


def test_nobody_knows_until_somebody_asked() -> None:
    account = LaneAccount()
    assert (account.surely_takes(1), account.takes(1 << 40)) == (False, True)
    account.seen(None)  # an older version of the functions
    assert (account.surely_takes(1), account.takes(1 << 40)) == (False, True)
    assert "all the bytes" in account.refusal(1)[0]


def test_what_was_sent_since_counts_and_the_next_look_takes_its_place() -> None:
    account = LaneAccount()
    account.seen(LaneBytes(100, 50, 1000, 30))
    assert (account.surely_takes(100), account.surely_takes(101)) == (True, False)
    account.sent(700)
    assert (account.takes(150), account.takes(151)) == (True, False)
    account.seen(None)
    assert not account.takes(151)
    account.seen(LaneBytes(0, 0, 1000, 0))
    assert account.takes(5000)
    account.sent(1)
    assert not account.takes(5000)


def test_the_refusal_says_how_many_bytes_and_when_to_come_back() -> None:
    account = LaneAccount()
    account.seen(LaneBytes(1 << 20, 15 << 20, 16 << 20, 42))
    sentence, retry_s = account.refusal(1)
    assert sentence == (
        "The lane's requests take 1.0 MiB and its stored answers 15.0 MiB; together they may take 16.0 MiB."
    )
    assert retry_s == 42
    account.seen(LaneBytes(15 << 20, 1 << 20, 16 << 20, 42))
    assert account.refusal(1)[1] == 1
    account.seen(LaneBytes(0, 16 << 20, 16 << 20, 3000))
    assert account.refusal(1)[1] == 60


@pytest.mark.parametrize("count", [1, 2, 4, 8, 64])
def test_as_many_as_share_a_port_may_send_at_once_and_not_exceed_the_limit(count: int) -> None:
    accounts = [LaneAccount(count) for _ in range(count)]
    for account in accounts:
        account.seen(LaneBytes(0, 0, 6400, 0))
        while account.surely_takes(10):
            account.sent(10)
    assert sum(account._sent for account in accounts) <= 6400


def test_prompt_tokens_have_a_limit_of_their_own() -> None:
    account = LaneAccount()
    account.seen(LaneBytes(400, 0, 1 << 30, 0, tokens=100, most_tokens=200, kilotoken_bytes=4000))
    assert (account.takes(400), account.takes(401)) == (True, False)
    account.sent(200)  # 50 tokens
    assert (account.takes(200), account.takes(201)) == (True, False)
    assert not account.surely_takes(1)
    assert account.refusal(240, 7) == (
        "The lane's requests have about 150 prompt tokens and this one has about 60; together they may have 200.",
        7,
    )
    account.seen(LaneBytes(0, 0, 1 << 30, 0, tokens=0, most_tokens=200, kilotoken_bytes=4000))
    assert account.takes(1 << 20)  # an empty lane takes a first one of any size


def test_a_lane_that_is_full_of_bytes_says_so_whatever_its_tokens() -> None:
    account = LaneAccount()
    account.seen(LaneBytes(900, 0, 1000, 0, tokens=1, most_tokens=200, kilotoken_bytes=4000))
    assert "MiB" in account.refusal(500)[0]

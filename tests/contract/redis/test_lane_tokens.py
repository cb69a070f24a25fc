"""A lane's limit in prompt tokens: held by what a token takes in bytes, for every way in, and for that lane only."""

from __future__ import annotations

from typing import Any

import pytest

from shared import keys
from shared.redis import functions
from shared.state import lanes
from shared.state.lanes import LaneBytes, bytes_from
from tests.contract.redis.test_functions import Server

FIFTY = bytes(200)
"""Fifty tokens of four bytes."""


def taken(server: Server, lane: str = "default") -> LaneBytes:
    found = bytes_from(server.call(functions.BYTES, key=keys.work(server.model, lane)))
    assert found is not None
    return found


def limit(server: Server, most: int, lane: str = "default") -> None:
    server.client.hset(keys.lanes(server.model), lanes.tokens_field(lane), lanes.encode_tokens(most))
    server.call(functions.LANES)


def says(server: Server, most: int, token_bytes: str = "") -> None:
    state = {"lane_tokens": str(most), "token_bytes": token_bytes}
    server.send(functions.heartbeat(server.work, "one", 60_000, 100, state, {"name": '"x"'}))
    server.call(functions.LANES)


def admits(server: Server, *messages: bytes, lane: str = "default") -> list[bool]:
    items = [(f"r{number}", "0", message) for number, message in enumerate(messages)]
    command = functions.admit(keys.work(server.model, lane), 100, "", "", (), items)
    statuses: Any = server.send(command)[1:]
    assert all(b"-" in status or status == b"full" for status in statuses)
    return [b"-" in status for status in statuses]


def test_a_lane_takes_any_number_of_tokens_unless_somebody_says_otherwise(server: Server) -> None:
    assert admits(server, *[FIFTY] * 90) == [True] * 90
    found = taken(server)
    assert (found.tokens, found.most_tokens, found.kilotoken_bytes) == (0, 0, 0)


def test_beyond_its_limit_a_lane_is_full_and_the_others_are_not(server: Server) -> None:
    limit(server, 100)
    server.client.hset(keys.lanes(server.model), "gold", "100,1")
    server.call(functions.LANES)
    assert admits(server, FIFTY) == [True]
    assert admits(server, FIFTY[1:]) == [True]
    assert admits(server, FIFTY) == [False]
    found = taken(server)
    assert (found.tokens, found.most_tokens, found.kilotoken_bytes) == (100, 100, 4000)
    assert admits(server, *[FIFTY] * 3, lane="gold") == [True] * 3
    (first, _) = server.claim(2)
    assert admits(server, FIFTY) == [False]  # what runs counts as what waits
    server.commit((first, "a", "", 0, b"r"))
    assert admits(server, FIFTY) == [True]


def test_the_limit_holds_within_a_call(server: Server) -> None:
    limit(server, 100)
    assert admits(server, *[FIFTY] * 4) == [True, True, False, False]


def test_an_empty_lane_takes_a_first_one_of_any_size(server: Server) -> None:
    """Also where it has stored replies: these have no tokens."""
    limit(server, 100)
    assert admits(server, bytes(2000), FIFTY) == [True, False]
    (entry,) = server.claim(1)
    server.commit((entry, "a", "", 60_000, bytes(20_000)))
    assert admits(server, bytes(2000), FIFTY) == [True, False]


def test_consumers_say_what_a_token_takes_and_what_lanes_may_have(server: Server) -> None:
    says(server, 100, "default=8000,gold=2000")
    server.client.hset(keys.lanes(server.model), "gold", "100,1")
    server.call(functions.LANES)
    assert admits(server, *[FIFTY] * 6) == [True] * 4 + [False] * 2
    assert admits(server, *[FIFTY] * 6, lane="gold") == [True, False, False, False, False, False]
    assert (taken(server).tokens, taken(server, "gold").tokens) == (100, 100)
    assert server.client.pttl(keys.lane_tokens(server.model)) > 0
    limit(server, 0, "gold")  # an operator's word is the last one
    assert admits(server, *[FIFTY] * 6, lane="gold") == [True] * 6
    says(server, 0)
    assert admits(server, *[FIFTY] * 6) == [True] * 6
    assert not server.client.hexists(keys.lanes(server.model), ":tokens")


@pytest.mark.parametrize("said", ["default=", "default=x", "=", "default=0", "default=-5", "d:x=5", "x" * 5000])
def test_what_no_consumer_says_is_passed_over(server: Server, said: str) -> None:
    says(server, 100, said)
    assert admits(server, *[FIFTY] * 3) == [True, True, False]
    server.client.unlink(keys.lane_tokens(server.model))
    server.client.set(keys.lane_tokens(server.model), "not a hash", px=60_000)
    assert taken(server).kilotoken_bytes == 4000


def test_a_long_queue_is_estimated_by_what_it_takes_in_memory(server: Server) -> None:
    """Counting every message would hold the server up; what the server itself says is a little more than that."""
    limit(server, 50_000)
    count = 0
    while count < 100 and all(admits(server, bytes(8000))):
        count += 1
    assert 20 <= count <= 25  # 2,000 tokens each


def test_later_requests_are_held_to_it_too(server: Server) -> None:
    limit(server, 100)
    requests = [(f"l{number}", "0", 60_000, 60_000, "", b"", "", FIFTY) for number in range(3)]
    statuses: Any = server.send(functions.later(server.work, 100, requests))[1:]
    assert [status == b"full" for status in statuses] == [False, False, True]


def test_a_front_end_of_before_there_were_tokens_reads_on() -> None:
    assert bytes_from([1, 2, 3, 4]) == LaneBytes(1, 2, 3, 4)
    assert bytes_from([1, 2, 3, 4, 5, 6, 7, 8]) == LaneBytes(1, 2, 3, 4, 5, 6, 7)
    assert bytes_from([1, 2, 3]) is None

"""What starts of consumers say, and how long the next one will probably take."""

from __future__ import annotations

import pytest

from shared.state import starts
from shared.state.starts import (
    ALIVE_MS,
    FIRST_BEAT_MS,
    MOST_MS,
    PRESUMED_MS,
    SHOWN_MS,
    Phase,
    Start,
    left_ms,
    ready_in_ms,
    surplus,
    usual,
)

NOW_MS = 1_000_000_000


def start(phase: Phase = Phase.LOADING, since_ago: int = 0, seen_ago: int = 0, took: int = 0, failed: int = 0) -> Start:
    return Start("w", phase, NOW_MS - since_ago, NOW_MS - seen_ago, "", took, failed)


def test_it_survives_the_way_there_and_back() -> None:
    one = start(took=4321, failed=2)
    assert starts.decode({b"host-0": starts.encode(one)}) == {"host-0": one}


def test_what_an_older_version_wrote_is_read() -> None:
    old = b'{"worker":"w","phase":"loading","since_ms":1,"seen_ms":2,"detail":""}'
    assert starts.decode({b"host-0": old}) == {"host-0": Start("w", Phase.LOADING, 1, 2)}


@pytest.mark.parametrize(
    ("one", "current"),
    [
        (start(), True),
        (start(seen_ago=ALIVE_MS), True),
        (start(seen_ago=ALIVE_MS + 1), False),
        (start(Phase.FAILED, seen_ago=SHOWN_MS), True),
        (start(Phase.FAILED, seen_ago=SHOWN_MS + 1), False),
        (start(Phase.READY), False),
    ],
)
def test_only_what_is_recent_is_shown(one: Start, current: bool) -> None:
    assert one.is_current(NOW_MS) is current


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (start(), True),
        (start(seen_ago=ALIVE_MS + 1), False),
        (start(Phase.READY, seen_ago=FIRST_BEAT_MS), True),
        (start(Phase.READY, seen_ago=FIRST_BEAT_MS + 1), False),
        (start(Phase.FAILED), False),
    ],
)
def test_what_loads_or_is_about_to_serve_is_under_way(one: Start, expected: bool) -> None:
    assert one.is_under_way(NOW_MS) is expected


@pytest.mark.parametrize(
    ("usual_ms", "passed_ms", "left"),
    [
        (8000, 0, 8000),
        (8000, 5000, 3000),
        (8000, 7900, 1000),  # nobody is told to come back at once
        (8000, 8000, 2000),  # late: a quarter more
        (8000, 40_000, 10_000),
        (8000, -5000, 8000),  # clocks of two servers
        (10**15, 0, MOST_MS),
        (-1, 0, 1000),
    ],
)
def test_what_is_left_is_what_is_usual_less_what_has_passed(usual_ms: int, passed_ms: int, left: int) -> None:
    assert left_ms(usual_ms, passed_ms) == left


def test_a_place_is_as_quick_as_it_was_and_an_unknown_one_as_the_last_that_spoke() -> None:
    known = start(since_ago=1000, took=5000)
    assert ready_in_ms({"a-0": known}, NOW_MS) == 4000
    assert ready_in_ms({"a-0": start(since_ago=1000)}, NOW_MS) == PRESUMED_MS - 1000
    told = {
        "old-0": start(Phase.READY, seen_ago=9000, took=60_000),
        "new-0": start(Phase.READY, seen_ago=1000, took=7000),
    }
    assert usual(told) == 7000
    assert ready_in_ms({**told, "a-0": start()}, NOW_MS) == 7000
    assert ready_in_ms({**told, "a-0": start(), "b-0": known}, NOW_MS) == 4000


def test_where_none_loads_nothing_is_told() -> None:
    silent = start(seen_ago=ALIVE_MS + 1)
    assert ready_in_ms({"a-0": start(Phase.READY), "b-0": start(Phase.FAILED), "c-0": silent}, NOW_MS) is None
    assert ready_in_ms({"a-0": start()}, NOW_MS, hopeless={"a-0"}) is None


def test_a_start_counts_those_before_it_that_came_to_nothing() -> None:
    assert start(Phase.READY, took=5000, failed=0).successor() == (5000, 0)
    assert start(Phase.FAILED, took=5000).successor() == (5000, 1)
    assert start(Phase.LOADING, took=5000, failed=1).successor() == (5000, 2)


def test_places_that_spoke_longest_ago_go_first_and_unreadable_ones_before_them() -> None:
    fields = {b"%d" % index: starts.encode(start(seen_ago=index)) for index in range(5)}
    assert surplus(fields, most=5) == []
    assert surplus({**fields, b"\xff": b"{"}, most=4) == [b"\xff", b"4"]

"""Dead letters as the console reads, orders and matches them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.console.actions.letters import Cursor, Entry, Match, cursor_of, entry_of, letter_of, newest_of
from shared.wire.outcomes import RequestError

ROW = [b"1700000000000-7", b"crashed", b"2", b"r1", 59, b"image/jpeg"]
NUMBERS = st.integers(0, (1 << 64) - 1)


def row(**changed: Any) -> list[Any]:
    """A row as hr1_letters answers it, with some of it changed."""
    names = ("entry", "reason", "crashes", "id", "bytes", "type")
    return [changed.get(name, value) for name, value in zip(names, ROW, strict=True)]


def test_a_row_is_read() -> None:
    letter = letter_of("gold", ROW)
    assert (letter.id, letter.lane, letter.at_ms, letter.attempts) == ("1700000000000-7", "gold", 1700000000000, 2)
    assert letter.entry == Entry(1700000000000, 7)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_a_letter_says_is_text(reason: bytes, crashes: bytes, request_id: bytes, kind: bytes) -> None:
    letter = letter_of("default", row(reason=reason, crashes=crashes, id=request_id, type=kind))
    assert 0 <= letter.attempts < 10**9
    assert isinstance(letter.reason + letter.request_id + letter.content_type, str)


@given(NUMBERS, NUMBERS)
def test_ids_are_read_as_they_are_written(ms: int, seq: int) -> None:
    entry = Entry(ms, seq)
    assert entry_of(entry.text, "after") == entry
    assert cursor_of(Cursor(entry, "a-lane").text, "after") == Cursor(entry, "a-lane")


def test_ids_are_ordered_as_numbers() -> None:
    assert Entry(9, 0) < Entry(10, 0) < Entry(10, 1) < newest_of(10) < Entry(11, 0)


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-1-1", "1-1/", "1-1/a b", "+", "(1-1", " 1-1", "1-1\n", f"{1 << 64}-0"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        cursor_of(text, "after")
    assert refused.value.field == "after"


def test_a_page_goes_on_behind_its_last_letter_in_every_lane() -> None:
    cursor = Cursor(Entry(5, 0), "b")
    assert [cursor.begin(lane) for lane in ("a", "b", "c")] == ["(5-0", "(5-0", "5-0"]
    assert Cursor(Entry(5, 0), "").begin("z") == "(5-0"


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("CRASH", True),
        ("r1", True),
        ("old", True),
        ("JPEG", True),
        ("59", False),
        ("r1 ", False),
        (".*", False),
    ],
)
def test_a_match_is_a_part_of_what_is_shown(text: str, matches: bool) -> None:
    assert Match(text)(letter_of("gold", ROW)) is matches

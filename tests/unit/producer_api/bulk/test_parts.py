"""Parts of batches, and the lists of what they hold."""

from __future__ import annotations

import random

import pytest

from producer_api.bulk.parts import PartDamaged, PartEntry, Record, decode, encode, indexes_of, ranges_text

RECORDS = [Record(0, b"", b""), Record(7, "é".encode(), b"payload", has_error=True), Record(99_999, b"n" * 1024, b"x")]


def test_a_part_comes_out_as_it_went_in() -> None:
    assert list(decode(encode(RECORDS))) == RECORDS


def test_a_part_that_is_cut_short_is_noticed_wherever() -> None:
    whole = encode(RECORDS)
    ends = {len(encode(RECORDS[:count])) for count in range(len(RECORDS))}
    for length in set(range(len(whole))) - ends:
        with pytest.raises(PartDamaged):
            list(decode(whole[:length]))


@pytest.mark.parametrize("seed", range(20))
def test_numbers_keep_their_order(seed: int) -> None:
    chance = random.Random(seed)
    numbers = list(range(0, 3 * 50, chance.choice((1, 2, 3))))
    if seed % 2:
        chance.shuffle(numbers)
    assert indexes_of(ranges_text(numbers)) == numbers


def test_neighbours_are_written_as_a_range() -> None:
    assert ranges_text([0, 1, 2, 5, 4, 9, 10]) == "0-2,5,4,9-10"
    assert ranges_text([]) == ""
    assert indexes_of("") == []


def test_an_entry_comes_back_as_it_was() -> None:
    entry = PartEntry("000003-2", 1234, [3, 4, 5, 1])
    assert PartEntry.of(entry.text()) == entry
    for bad in ("", "key", "key x 1-2", "key 5 a-b", "key 5 1,,2"):
        with pytest.raises(PartDamaged):
            PartEntry.of(bad)

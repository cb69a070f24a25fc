"""What somebody else may have written into the history ring: it is read in short pieces, or not at all."""

from __future__ import annotations

import random
from typing import Final

from producer_api.console.history.merging import Merged
from producer_api.console.history.rows import (
    MOST_ROW_BYTES,
    Gauges,
    LaneGauge,
    LaneRow,
    Row,
    decode,
    encode,
    messages_of,
    pieces,
)
from shared.metrics.waits import WAIT_BOUNDS_S
from shared.state.lanes import MOST_LANES

NEVER: Final = 1 << 60
WAITS: Final = dict.fromkeys(range(len(WAIT_BOUNDS_S) + 1), 1 << 20)


def row(slot: int, lanes: int = 1, watched: int = 0, now: int = 0) -> Row:
    names = [f"{number}".rjust(64, "l") for number in range(lanes)]
    gauges = Gauges(1, 0.5, 2.0, {name: LaneGauge(1, 1) for name in names})
    counts = {name: LaneRow(9, 9, 0, 9.0, WAITS) for name in names}
    return Row(slot, now or slot, "front end", 10_000, watched, counts, gauges)


def test_a_row_of_as_many_lanes_as_a_model_may_have_is_read_and_a_larger_one_is_not() -> None:
    largest = encode(row(100, MOST_LANES))
    assert len(largest) <= MOST_ROW_BYTES
    assert decode(largest) is not None
    assert decode(encode(row(100, MOST_LANES + 1))) is None
    assert messages_of([[b"1-0", [b"r", b"x" * (MOST_ROW_BYTES + 1)]], [b"2-0", [b"r", largest]]]) == [
        (b"2-0", largest)
    ]


def test_rows_are_decoded_in_pieces_of_so_many_bytes_and_none_is_lost() -> None:
    messages = [encode(row(slot, lanes=1 + slot % 5)) for slot in range(100, 160)]
    found = list(pieces([b"no row", *messages, b"x" * 5000], 4096))
    assert [one.slot for piece in found for one in piece] == list(range(100, 160))
    sizes = [[len(encode(one)) for one in piece] for piece in found]
    assert all(sum(piece[:-1]) < 4096 for piece in sizes)  # a piece ends with the row that fills it
    assert len(found) > 5


def test_rows_that_claim_a_day_of_watching_are_worth_no_more_than_the_slots_there_are() -> None:
    dice = random.Random(17)
    for _ in range(50):
        merged, watched = Merged(1000, 1400), set[int]()
        for _ in range(30):
            slot, idle = dice.randrange(990, 1410), dice.choice((0, 3, 40, 1 << 50))
            merged.take([row(slot, watched=idle, now=1400)])
            if 1000 <= slot <= 1400:
                watched |= set(range(max(1000, slot - min(idle, 2000)), slot + 1))
        assert {slot for slot in range(1000, 1401) if merged.is_known(slot, NEVER)} == watched


def test_what_was_watched_after_a_clock_was_set_back_is_forgotten_and_what_was_before_is_not() -> None:
    merged = Merged(1000, 1400)
    merged.take([row(1300, watched=200), row(1350), row(1200, watched=0)])  # the last one: the clock was set back
    assert [slot for slot in (1099, 1100, 1199, 1200, 1201, 1350) if merged.is_known(slot, NEVER)] == [1100, 1199, 1200]

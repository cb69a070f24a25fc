"""The past, from rows of several front ends: sums, what nobody has waited for, and clocks that jump."""

from __future__ import annotations

from typing import Any

import pytest

from producer_api.console.feed.counts import Counts
from producer_api.console.history.columns import History, columns, per_point
from producer_api.console.history.lately import Lately
from producer_api.console.history.merging import Merged
from producer_api.console.history.pace import Ledger, pause_s, slot_ended
from producer_api.console.history.rows import Gauges, LaneGauge, LaneRow, Row, decode, encode, rows_of

EVER = 1 << 60


def row(slot: int, who: str = "a", ended: int = 0, gauges: Gauges | None = None, **more: Any) -> Row:
    lane = more.pop("lane", "default")
    waits = more.pop("waits", {10: ended} if ended else {})
    lanes = {lane: LaneRow(ended, ended, 0, float(ended), waits)} if ended else {}
    given = {"now": slot, "covered_ms": 10_000, "watched": 0, **more}
    return Row(slot=slot, who=who, lanes=lanes, gauges=gauges, **given)


def gauges(depth: int = 0, done: int | None = None, busy: float | None = 0.0) -> Gauges:
    return Gauges(1, busy, None, {"default": LaneGauge(depth, done)})


def drawn(rows: list[Row], first: int, last: int, size: int = 1, lane: str = "", since: int = EVER) -> History:
    merged = Merged(first, last)
    merged.take(rows)
    steps = columns(merged, first, last, size, lane, since)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: History = done.value
            return found


def test_front_ends_add_up() -> None:
    found = drawn([row(100, "a", 50), row(100, "b", 30), row(101, "b", 10)], 99, 102)
    assert found.step_s == 10
    assert found.at_s == [990, 1000, 1010, 1020]
    assert found.rate == [None, 8.0, 1.0, None]
    assert found.errors == [None, 0.0, 0.0, None]
    assert found.goodput == [None, 1.0, 1.0, None]


def test_quantiles_are_those_of_all_replies_together() -> None:
    quick, slow = row(100, "a", 99, waits={5: 99}), row(100, "b", 1, waits={40: 1})
    both, alone = drawn([quick, slow], 100, 100), drawn([quick], 100, 100)
    assert both.p50_ms == pytest.approx(alone.p50_ms, rel=0.3)
    assert both.p99_ms[0] == pytest.approx(alone.p99_ms[0], rel=0.3)
    more = drawn([quick, row(100, "b", 9, waits={40: 9})], 100, 100)
    assert more.p99_ms[0] is not None
    assert alone.p99_ms[0] is not None
    assert more.p99_ms[0] > 100 * alone.p99_ms[0]


def test_a_lane_by_itself_and_points_of_several_slots() -> None:
    rows = [row(100, ended=60), row(101, ended=20, lane="gold"), row(102, ended=40), row(103)]
    assert drawn(rows, 100, 103, lane="gold").rate == [0.0, 2.0, 0.0, 0.0]
    assert drawn(rows, 100, 103, size=2).rate == [4.0, 2.0]
    assert per_point(60, 360) == 1
    assert per_point(1440, 360) == 24
    assert per_point(60, 1) == 360
    assert per_point(1, 2000) == 1


def test_what_was_counted_over_longer_is_a_rate_all_the_same() -> None:
    assert drawn([row(100, ended=60, covered_ms=30_000)], 100, 100).rate == [2.0]


def test_idle_slots_are_zero_where_somebody_watched_and_unknown_elsewhere() -> None:
    rows = [row(100, ended=10), row(104, ended=10, watched=2)]
    assert drawn(rows, 99, 106, since=105).rate == [None, 1.0, None, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_gauges_hold_until_they_change_and_the_deepest_moment_of_a_point_counts() -> None:
    rows = [
        row(90, gauges=gauges(depth=7, busy=0.5)),
        row(102, gauges=gauges(depth=3, busy=0.25), watched=20),
        row(103, gauges=gauges()),
    ]
    found = drawn(rows, 100, 103)
    assert found.depth == [7, 7, 3, 0]
    assert found.busy == [0.5, 0.5, 0.25, 0.0]
    assert drawn(rows, 100, 103, size=4).depth == [7]
    assert drawn(rows, 100, 103, size=4).busy == [0.3125]
    assert drawn(rows[1:], 100, 101).depth == [None, None]


def test_what_no_front_end_has_waited_for_counts_by_what_ended_in_the_lanes() -> None:
    rows = [
        row(100, gauges=gauges(done=1000)),
        row(101, ended=50, gauges=gauges(done=1150), watched=0),
        row(102, ended=50, gauges=gauges(done=1200), watched=0),
        row(109, gauges=gauges(done=9000), watched=1),  # nobody knows when that was
    ]
    assert drawn(rows, 100, 103).rate == [0.0, 15.0, 5.0, None]
    assert drawn(rows, 109, 109).rate == [0.0]


def test_a_stream_that_begins_anew_takes_nothing_away() -> None:
    rows = [row(100, gauges=gauges(done=1000)), row(101, ended=10, gauges=gauges(done=3))]
    assert drawn(rows, 101, 101).rate == [1.0]


def test_a_clock_that_is_set_back_replaces_what_it_had_said_of_the_time_after() -> None:
    """An hour back, with two front ends: what was written of the hour that comes again is not added to it."""
    before = [row(slot, who, 100) for slot in range(400, 460) for who in ("a", "b")]
    after = [row(slot, who, 10) for slot in range(100, 110) for who in ("a", "b")]
    found = drawn([*before, *after], 95, 109)
    assert found.rate == [None] * 5 + [2.0] * 10
    again = drawn([*before, *after, *(row(slot, "a", 10) for slot in range(110, 403))], 398, 402)
    assert again.rate == [1.0] * 5


def test_a_clock_that_is_set_forward_and_right_again_leaves_a_gap_and_no_ghosts() -> None:
    rows = [
        *(row(slot, ended=10) for slot in range(100, 103)),
        *(row(slot, ended=10) for slot in range(460, 463)),
        *(row(slot, ended=20) for slot in range(104, 106)),
    ]
    assert drawn(rows, 100, 106).rate == [1.0, 1.0, 1.0, None, 2.0, 2.0, None]
    assert drawn(rows, 460, 462).rate == [None, None, None]


def test_front_ends_whose_rows_cross_lose_nothing_nor_does_one_that_writes_later() -> None:
    rows = [row(101, "a", 10), row(100, "b", 10), row(102, "a", 10), row(90, "b", 10, now=102)]
    found = drawn(rows, 90, 102)
    assert (found.rate[0], found.rate[-3:]) == (1.0, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "message",
    [b"", b"\xc1", b"\x90", encode(row(1, lane="a}b", ended=1)), bytes(300_000), encode(row(-1)), 7, b"\x91" * 3000],
)
def test_what_is_no_row_is_passed_over(message: Any) -> None:
    assert decode(message) is None
    assert rows_of([[b"1-0", [b"r", message]], [b"2-0", [b"x", b"y"]], [b"3-0", None]]) == []


def test_impossible_counts_are_made_possible() -> None:
    wild = LaneRow(-5, 3, 1 << 60, 1e300, {-1: 4, 10_000: 4, 3: -2, 4: 9})
    assert wild.counts() == Counts(0, 3, 1 << 53, 3.0, {4: 9})
    sound = decode(encode(row(5, ended=3)))
    assert sound == row(5, ended=3)


def test_slots_end_at_tens_of_seconds() -> None:
    assert slot_ended(20_000) == 1
    assert slot_ended(19_600) == 1
    assert slot_ended(19_400) == 0
    assert pause_s(20_000) == 10
    assert pause_s(23_000) == 7
    assert pause_s(29_800) == 10.2


def test_nothing_is_written_for_a_model_without_traffic_or_change() -> None:
    ledger, counts = Ledger("a"), {("m", "default"): Counts(1, 1)}
    ledger.tick(1, 10_000, {}, {"m": gauges()})
    for slot in range(2, 6):
        ledger.tick(slot, 10_000, {}, {"m": gauges()})
    ledger.tick(6, 10_000, counts, {"m": gauges()})
    ledger.tick(7, 10_000, {}, {"m": gauges(depth=1)})
    rows = [one for _, one in ledger.pending]
    assert [(one.slot, one.watched, one.gauges is None) for one in rows] == [(1, 0, False), (6, 4, True), (7, 0, False)]
    ledger.lost_sight()
    ledger.tick(8, 10_000, {}, {"m": gauges(depth=1)})
    assert ledger.pending[-1][1].watched == 0


def test_the_last_seconds_of_other_front_ends() -> None:
    lately = Lately("me")
    lately.take({"m": [(b"1-0", row(99, "b", 10)), (b"2-0", row(100, "b", 20)), (b"3-0", row(100, "me", 70))]})
    assert lately.after == {"m": b"3-0"}
    [(span_s, counts)] = lately.parts(100)
    assert (span_s, counts["m", "default"].ended) == (10, 20)
    assert lately.parts(103) == []
    lately.take({"m": [(b"4-0", row(101, "b", gauges=gauges(done=5))), (b"5-0", row(102, gauges=gauges(done=105)))]})
    assert lately.others(102) == {("m", "default"): 10.0}
    assert lately.others(103) == {("m", "default"): 10.0}  # what was written of that one may not have been read yet
    assert lately.others(104) == {}
    lately.take({})
    assert (lately.parts(102), lately.after) == ([], {})

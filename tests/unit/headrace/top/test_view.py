"""The picture of `headrace top`, at any width, of any state."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.top.figures import ASCII_BARS, BARS, count, curve, cut, milliseconds, percent, seconds, size
from headrace.top.view import Shown, lines, painted
from producer_api.console.feed.seen import LaneSeen, LaneSettingsSeen, ModelSeen, Seen, WorkerSeen
from producer_api.console.feed.state import Recent, state
from producer_api.queue.interface import Catalogue, ModelState
from shared.state.lanes import LaneBytes
from tests.fakes import ECHO


def document(**of_worker: str) -> Any:
    lanes = {"default": 10, "night-shift-of-the-third-tenant": None}
    one = ModelState(
        "echo", ECHO, 1, 3, lanes=lanes, lengths={"default": 3}, bytes={"default": LaneBytes()}, versions=("1", "2")
    )
    other = ModelState("a-model-with-a-name-that-is-much-too-long-to-be-shown-in-a-table", None, 0, 7)
    fields = {"busy": "0.93", "batch": "12.5", "fixed_ms": "1.25", "per_row_ms": "0.031", "unit": "row", **of_worker}
    seen = Seen(
        100_000,
        memory_used=5 << 20,
        memory_limit=1 << 30,
        models={
            "echo": ModelSeen(
                [WorkerSeen("host-1-abc", 99_000, fields)],
                LaneSettingsSeen({"default": 2.0}, frozenset({"default"})),
                {"default": LaneSeen(2, 40_000, 5)},
                5,
            )
        },
    )
    found = state(Catalogue({"echo": one, other.name: other}, redis_ok=True), seen, Recent([]), "echo")
    return msgspec.json.decode(msgspec.json.encode(found))


HISTORY = {"at_s": [10, 20, 30], "rate": [1.0, None, 4.0], "p99_ms": [3.0, None, 12.0], "depth": [0, None, 0]}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [0, 5, 24])
def test_it_fits(width: int, height: int) -> None:
    drawn = lines(Shown("http://h:1", document(), HISTORY), width, height, is_utf8=True, has_keys=True)
    assert max(len(text) for text, _ in drawn) <= width
    assert not height or len(drawn) <= height
    assert drawn[-1][0].startswith("q quits")
    assert drawn[0][0].startswith("headrace top")


def test_eighty_columns_have_everything_that_matters() -> None:
    drawn = lines(Shown("u", document(), HISTORY), 80, 0, is_utf8=True, has_keys=False)
    shown = " ".join(" ".join(text for text, _ in drawn).split())
    for what in (
        "health: bad", "no live worker", "headrace up", "5 MB of 1024 MB", ">echo", "BUSY", "GOOD", "default",
        "paused", "60s", "host-1-abc", "93%", "12.5", "1.25", "0.03", "rate/s", "█",
    ):  # fmt: skip
        assert what in shown, what


def test_models_that_generate_show_their_slots() -> None:
    given = document(running="3", slots="8", tokens_per_s="123.4")
    shown = "\n".join(text for text, _ in lines(Shown("u", given), 80, 0, is_utf8=True, has_keys=False))
    assert "SLOTS" in shown
    assert "123" in shown


def test_nothing_yet_and_trouble() -> None:
    assert lines(Shown("u"), 80, 24, is_utf8=True, has_keys=True)[1][0] == "Waiting for the front end."
    told = lines(Shown("u", document(), trouble="No front end answers."), 80, 24, is_utf8=True, has_keys=True)
    assert told[1] == ("No front end answers.", 31)
    away = document()
    away["redis"] = {"ok": False, "memory_used": None, "memory_limit": None}
    assert lines(Shown("u", away), 80, 24, is_utf8=True, has_keys=True)[1][0].startswith("Redis does not answer")


def test_names_cannot_move_the_cursor() -> None:
    given = document(runtime="\x1b[2Jtorch\r\n")
    drawn = lines(Shown("\x1b]0;title\x07", given), 80, 0, is_utf8=True, has_keys=True)
    assert all(text.isprintable() for text, _ in drawn)


def test_colours_only_where_there_are_some() -> None:
    assert painted(("a", 31), has_colours=True) == "\x1b[31ma\x1b[0m"
    assert painted(("a", 31), has_colours=False) == painted(("a", 0), has_colours=True) == "a"


def test_figures_are_short() -> None:
    assert [count(one) for one in (None, 0, 7, 0.25, 99.94, 100.2, 999, 1000, 12_345, 3e9)] == [
        "-", "0", "7", "0.2", "99.9", "100", "999", "1k", "12.3k", "3G",
    ]  # fmt: skip
    assert [milliseconds(one) for one in (None, 0.031, 9.99, 10.04, 99.94, 250.4, 12_500, 2e6)] == [
        "-", "0.03", "9.99", "10.0", "99.9", "250", "12.5s", "2000s",
    ]  # fmt: skip
    assert [seconds(one) for one in (None, 0.42, 12, 119, 300, 7200, 400_000)] == [
        "-", "0.4s", "12s", "119s", "5m", "2h", "5d",
    ]  # fmt: skip
    assert (percent(None), percent(0.425), size(5 << 20), size(64 << 30)) == ("-", "42%", "5 MB", "64 GB")
    assert (cut("abcdef", 4), cut("abc", 3), cut("abc", 0)) == ("abc~", "abc", "")


@pytest.mark.parametrize("bars", [BARS, ASCII_BARS])
def test_curves_end_at_the_right(bars: str) -> None:
    assert curve([1, 2, 4], 5, bars) == "  " + bars[3] + bars[5 if len(bars) == 9 else 4] + bars[8]
    assert curve([0, None, 0], 3, bars) == bars[1] + bars[0] + bars[1]
    assert curve([], 2, bars) == "  "
    assert len(curve(list(range(100)), 10, bars)) == 10

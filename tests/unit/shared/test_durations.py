"""How people write durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.durations import duration, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("2m", 120),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("7", 7),
        ("0.3", 0.3),
        ("1m500ms", 60.5),
        ("1h", 3600),
        ("1h1m1s", 3661),
        ("1d", 86_400),
        ("0", 0),
        (" 5s ", 5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "soon", "-3s", "30s1m", "nan", "inf", "1e9", "30 s s", "5S", "5m5", "1" * 40, "٣s", "2d"]
)
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_s(text)


def test_bounds_are_named() -> None:
    with pytest.raises(ValueError, match="between 1s and 7d"):
        parse_duration_s("8d", 1, 7 * 86_400)


@given(st.integers(1, 86_400_000))
def test_what_is_written_reads_the_same(milliseconds: int) -> None:
    assert parse_duration_s(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)

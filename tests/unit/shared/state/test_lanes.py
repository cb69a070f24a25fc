"""Limits and weights of lanes, as they stand in Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.state.lanes import (
    MOST_LANES,
    MOST_LIMIT,
    LaneSettings,
    batch_lanes,
    encode,
    from_pairs,
    kind_field,
    parse,
)


@given(st.integers(1, MOST_LIMIT), st.integers(1, 1_000_000))
def test_what_is_written_is_read(limit: int, thousandths: int) -> None:
    weight = thousandths / 1000
    assert parse(encode(limit, weight).encode()) == LaneSettings(limit, weight)


@pytest.mark.parametrize("value", [b"2048", b"", b"x", b"5,", b"5,0", b"5,-1", b"5,nan", b"5,1e3", b"0,1", b"5,1,1",
                                   b"99999999,1", b"5,1001", b" 5,1", b"5,1\n", b"\xff,1"])  # fmt: skip
def test_what_no_operator_has_written_is_not_set(value: bytes) -> None:
    assert parse(value) == LaneSettings(None, 1.0)


@given(st.binary())
def test_anything_can_be_read(value: bytes) -> None:
    settings = parse(value)
    assert settings.limit is None or 1 <= settings.limit <= MOST_LIMIT
    assert settings.weight > 0


@pytest.mark.parametrize(("limit", "weight", "what"), [(0, 1.0, "limit"), (MOST_LIMIT + 1, 1.0, "limit"),
                                                       (1, 0.0, "weight"), (1, float("nan"), "weight"),
                                                       (1, float("inf"), "weight")])  # fmt: skip
def test_what_is_out_of_range_is_not_written(limit: int, weight: float, what: str) -> None:
    with pytest.raises(ValueError, match=f"The {what} must lie between"):
        encode(limit, weight)


def test_the_default_is_always_there_and_first() -> None:
    assert list(from_pairs([])) == ["default"]
    table = from_pairs([(b"a", b"5,2"), (b"no name", b"5,2"), (b"default", b"2048"), (b"b}:", b"1,1")])
    assert table == {"default": LaneSettings(), "a": LaneSettings(5, 2.0)}
    assert list(table) == ["default", "a"]


def test_there_are_only_so_many() -> None:
    table = from_pairs([(b"lane-%04d" % number, b"5,1") for number in range(500)])
    assert len(table) == MOST_LANES
    assert "lane-0000" in table


def test_a_batch_lane_is_read_and_nothing_else_is() -> None:
    pairs = [
        (kind_field("nightly").encode(), b"batch"),
        (b"nightly", b"500,1"),
        (b"gold:kind", b"interactive"),
        (b"default:kind", b"batch"),
        (b"silver:paused", b"batch"),
        (b":kind", b"batch"),
        (b"a b:kind", b"batch"),
        (b"\xff\xfe:kind", b"batch"),
    ]
    assert batch_lanes(pairs) == {"nightly"}
    assert batch_lanes([]) == frozenset()
    assert list(from_pairs(pairs)) == ["default", "nightly"]

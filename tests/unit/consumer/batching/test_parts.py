"""Large requests in parts: everything once, in order, and no part too large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.by_length import parts_by_length
from consumer.batching.parts import parts

units = st.lists(st.integers(1, 50), max_size=40)


def test_a_row_that_is_too_large_is_alone() -> None:
    assert [list(part) for part in parts([3, 9, 2, 2, 2], 5)] == [[0], [1], [2, 3], [4]]
    assert list(parts_by_length([3, 9, 2, 2, 2], 6)) == [[2, 3, 4], [0], [1]]


@given(units, st.integers(1, 80))
def test_parts_are_in_order_and_bounded(rows: list[int], most: int) -> None:
    found = [list(part) for part in parts(rows, most)]
    assert [place for part in found for place in part] == list(range(len(rows)))
    assert all(len(part) == 1 or sum(rows[place] for place in part) <= most for part in found)


@given(units, st.integers(1, 80))
def test_padded_parts_are_bounded_with_their_padding(rows: list[int], most: int) -> None:
    found = list(parts_by_length(rows, most))
    assert sorted(place for part in found for place in part) == list(range(len(rows)))
    assert all(len(part) == 1 or len(part) * max(rows[place] for place in part) <= most for part in found)

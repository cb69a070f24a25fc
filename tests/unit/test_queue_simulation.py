"""Thousands of days of a whole queue on a virtual clock; see ``tests/queue_simulation.py``."""

from __future__ import annotations

import pytest

from tests.queue_simulation import live

FEW, MANY, CHUNK = range(500), range(500, 10_000), 500


def test_nothing_is_lost_on_any_day() -> None:
    """A day that breaks a promise is named by its seed, and ``live(seed)`` lives it again."""
    days = [live(seed) for seed in FEW]
    # A check that nothing reaches is none.
    for what in ("refused", "full", "late", "crashes", "silences", "taken_over"):
        assert any(getattr(day, what) for day in days), what
    assert {entry.end for day in days for entry in day.entries} == {"answered", "expired"}


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(MANY.start, MANY.stop, CHUNK))
def test_nothing_is_lost_on_many_more_days(first: int) -> None:
    for seed in range(first, first + CHUNK):
        live(seed)


def test_a_day_can_be_replayed() -> None:
    first, again = live(11), live(11)
    assert [(entry.end, entry.ended_s, entry.starts) for entry in first.entries] == [
        (entry.end, entry.ended_s, entry.starts) for entry in again.entries
    ]

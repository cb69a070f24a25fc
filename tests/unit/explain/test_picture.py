"""The picture of a story in the terminal: readable, in proportion, and safe whatever the document says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.asking.picture import WIDTH, bars, lines, milliseconds, moment

STORY: dict[str, Any] = {
    "model": "imagenet",
    "lane": "default",
    "id": "r1",
    "state": "answered",
    "outcome": "ok",
    "attempt": 2,
    "worker": "gpu-3",
    "batch": {"id": "gpu-3-7", "rows": 8, "reason": "full", "of_batch_lane": True},
    "at_ms": 1_796_078_390_830,
    "spans": [{"name": "queue", "ms": 25.0}, {"name": "run", "ms": 75.0}],
    "total_ms": 100.0,
    "first_token_ms": 12.5,
    "front_end": "fe-1",
    "trace_id": "abc",
    "notes": ["An earlier attempt did not end."],
}


def test_a_story_has_its_facts_and_a_bar_for_each_span() -> None:
    text = "\n".join(lines(STORY, "#"))
    assert text.startswith("r1 of imagenet, lane default: answered after 100 ms\n")
    for part in ("gpu-3-7: 8 rows, of a batch lane", "it was full", "attempt      2", "fe-1", "abc", "12.50 ms"):
        assert part in text
    assert "2026-11-30 22:39:50.830 UTC" in text
    assert text.endswith("  An earlier attempt did not end.")
    queue, run = [line for line in text.splitlines() if "#" in line]
    assert (queue.count("#"), run.count("#")) == (WIDTH // 4, WIDTH * 3 // 4)
    assert queue.rindex("#") + 1 == run.index("#")


def test_what_is_not_known_has_no_line() -> None:
    story = {name: STORY[name] for name in ("model", "lane", "id", "state")}
    assert list(lines({**story, "state": "failed", "outcome": "lane_full"})) == [
        "r1 of imagenet, lane default: failed (lane_full)"
    ]


def test_a_span_that_took_nearly_nothing_is_seen() -> None:
    short, long = bars([{"name": "commit", "ms": 0.001}, {"name": "run", "ms": 1000}], "#")
    assert short.count("#") == 1
    assert long.count("#") == WIDTH
    last = list(bars([{"name": "run", "ms": 1000}, {"name": "commit", "ms": 0.001}], "#"))[1]
    assert last.count("#") == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*STORY, "ms", "name"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_a_document_of_any_shape_is_no_trouble(document: Any) -> None:
    for line in lines(document):
        assert line.isprintable()


def test_nothing_in_it_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\n\u202e"
    story = {**STORY, "id": evil, "worker": evil, "notes": [evil], "spans": [{"name": evil, "ms": 1.0}]}
    assert all(line.isprintable() for line in lines(story))


@pytest.mark.parametrize(
    ("ms", "shown"), [(0.126, "0.13 ms"), (99.9, "99.90 ms"), (123.4, "123 ms"), (61_000, "61.0 s")]
)
def test_durations(ms: float, shown: str) -> None:
    assert milliseconds(ms) == shown


def test_a_moment_that_is_none_is_nothing() -> None:
    assert moment(1e18) == ""

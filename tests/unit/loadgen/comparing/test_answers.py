"""When two answers count as equal, and how far the others lie apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.comparing.answers import EQUAL, distance


def classes(*scores: tuple[str, int, float], row: int | None = None) -> list[dict[str, Any]]:
    more = {} if row is None else {"row": row}
    return [{"label": label, "index": index, "score": score, **more} for label, index, score in scores]


CAT, DOG, COW = ("cat", 1, 0.5), ("dog", 2, 0.3), ("cow", 3, 0.1)


def predictions(*scores: tuple[str, int, float]) -> dict[str, Any]:
    return {"id": "x", "predictions": classes(*scores), "timing": {"total_ms": 1.0}}


def output(datatype: str, data: list[Any], **changes: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "y", "datatype": datatype, "shape": [1, len(data)], "data": data, **changes}]}


def test_what_is_no_part_of_the_answer_does_not_count() -> None:
    other = {**predictions(CAT, DOG), "id": "y", "timing": {"total_ms": 9.0}, "version": "2"}
    assert distance(predictions(CAT, DOG), other) == EQUAL


@pytest.mark.parametrize(
    ("now", "apart", "what"),
    [
        ((CAT, ("dog", 2, 0.29), COW), 0.02, "the score of 'dog' in row 0, 0.29 instead of 0.3"),
        ((DOG, CAT, COW), 0.4, "'dog' instead of 'cat' in row 0"),
        ((("dog", 2, 0.9), CAT, COW), 1.2, "'dog' instead of 'cat' in row 0"),
        ((CAT, DOG, ("hen", 4, 0.1)), 0.0, ""),  # neither is sure of its third
        ((CAT, DOG, ("hen", 4, 0.2)), 0.2, "the score of 'hen' in row 0, 0.2 instead of 0.1"),
        ((("cat", 7, 0.5), DOG, COW), 0.8, "'cat' instead of 'cat' in row 0"),  # another class of this label
        ((CAT, DOG), math.inf, "the scores of row 0"),
    ],
)
def test_predictions(now: tuple[tuple[str, int, float], ...], apart: float, what: str) -> None:
    found = distance(predictions(CAT, DOG, COW), predictions(*now))
    assert found.value == pytest.approx(apart)
    if apart:
        assert found.what == what


def test_the_likeliest_may_change_where_two_lie_close_together() -> None:
    close = ("dog", 2, 0.499)
    found = distance(predictions(CAT, close), predictions(close, CAT))
    assert found.value == pytest.approx(0.002)


def test_another_only_label_is_another_answer() -> None:
    assert distance(predictions(CAT), predictions(("dog", 2, 0.5))).value == pytest.approx(1.0)


def test_every_row_counts() -> None:
    ours = {"predictions": [*classes(CAT, DOG, row=0), *classes(CAT, DOG, row=1)]}
    theirs = {"predictions": [*classes(CAT, DOG, row=0), *classes(DOG, CAT, row=1)]}
    assert "in row 1" in distance(ours, theirs).what
    assert distance(ours, predictions(CAT, DOG)).value == math.inf


@pytest.mark.parametrize(
    ("before", "after", "apart"),
    [
        (output("FP32", [1.0, -4.0]), output("FP32", [1.1, -4.0]), 0.025),
        (output("FP32", [1, -4]), output("FP32", [2, -4]), 0.25),
        (output("FP32", [1.0, None]), output("FP32", [1.0, None]), 0.0),
        (output("FP32", [1.0, None]), output("FP32", [1.0, 2.0]), math.inf),
        (output("FP32", [0.0, 0.0]), output("FP32", [0.0, 1e-9]), math.inf),
        (output("UINT8", [200, 7]), output("UINT8", [200, 8]), math.inf),
        (output("BYTES", ["a"]), output("BYTES", ["b"]), math.inf),
        (output("BOOL", [True]), output("BOOL", [False]), math.inf),
        (output("FP32", [1.0]), output("FP64", [1.0]), math.inf),
        (output("FP32", [1.0, 2.0]), output("FP32", [1.0, 2.0], shape=[2, 1]), math.inf),
        (output("FP32", [1.0]), output("FP32", [1.0], name="z"), math.inf),
        (output("FP32", [1.0]), {"outputs": []}, math.inf),
        (output("FP32", [1.0]), predictions(CAT), math.inf),
    ],
)
def test_outputs(before: dict[str, Any], after: dict[str, Any], apart: float) -> None:
    found = distance(before, after)
    assert found.value == pytest.approx(apart)
    assert bool(found.what) is (apart > 0)


@pytest.mark.parametrize(
    ("before", "after", "apart"),
    [
        ([{"class": 285, "p": 0.5}], [{"class": 285, "p": 0.51}], 0.02),
        ([{"class": 285, "p": 0.5}], [{"class": 286, "p": 0.5}], math.inf),
        ([{"class": 285}], [{"klass": 285}], math.inf),
        (["text"], ["text"], 0.0),
        (["text"], ["another"], math.inf),
    ],
)
def test_predictions_of_services_that_are_no_headrace(before: list[Any], after: list[Any], apart: float) -> None:
    assert distance({"predictions": before}, {"predictions": after}).value == pytest.approx(apart)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(before=VALUES, after=VALUES)
def test_whatever_a_service_says_is_compared(before: Any, after: Any) -> None:
    """And equal only to itself: a distance of 0 is given to nothing else."""
    for name in ("predictions", "outputs"):
        found = distance({name: before}, {name: after})
        assert found.value >= 0
        assert distance({name: before}, {name: before}) == EQUAL

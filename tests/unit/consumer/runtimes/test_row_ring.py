"""Rows side by side: every slot has one user at a time, and comes back by itself."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.models.base import RAW
from consumer.models.vision.classifier import Classifier
from consumer.models.vision.torchvision import build_network
from consumer.runtimes.row_ring import RowRing
from shared.model_config import ModelConfig, Preprocessing
from shared.wire.messages import Request


def row_of(value: int) -> Any:
    return np.full((2, 3), value, np.uint8)


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60))
def test_no_slot_has_two_users(actions: list[int | None]) -> None:
    """None places a row, a number forgets one of those placed. What was placed stays what it was."""
    ring = RowRing(np.zeros((6, 2, 3), np.uint8))
    alive: list[tuple[int, Any]] = []
    for number, action in enumerate(actions):
        if action is None:
            alive.append((number, ring.place(row_of(number))))
        elif alive:
            alive.pop(action % len(alive))
        assert all((placed == value).all() for value, placed in alive)
    alive.clear()
    placed = [ring.place(row_of(number)) for number in range(7)]
    assert sorted(slot for row in placed if (slot := ring.first_slot([row])) is not None) == list(range(6))


def test_neighbours_are_found_and_others_are_not() -> None:
    ring = RowRing(np.zeros((6, 2, 3), np.uint8))
    rows = [ring.place(row_of(number)) for number in range(6)]
    assert ring.first_slot(rows) == 0
    assert ring.first_slot(rows[2:5]) == 2
    assert ring.first_slot([rows[0], rows[2]]) is None
    assert ring.first_slot([rows[1], rows[0]]) is None
    assert ring.first_slot([row_of(1)]) is None
    assert ring.first_slot([rows[5], row_of(1)]) is None
    assert ring.first_slot([rows[0][1:]]) is None


def test_a_row_without_a_slot_is_used_as_it_is() -> None:
    ring = RowRing(np.zeros((1, 2, 3), np.uint8))
    kept, other = ring.place(row_of(1)), row_of(2)
    assert ring.place(other) is other
    large = np.zeros((4, 4, 3), np.uint8)
    assert ring.place(large) is large
    assert (kept == 1).all()


def test_memory_in_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="must be contiguous"):
        RowRing(np.zeros((4, 4), np.uint8)[:, ::2])


def test_a_request_that_dies_frees_its_rows() -> None:
    config = ModelConfig("torchvision", "squeezenet1_1", "random", preprocessing=Preprocessing(resize=32, crop=32))
    model = Classifier(config, build_network)
    model.load("cpu", "fp32")
    ring = RowRing(np.zeros((4, 32, 32, 3), np.uint8))
    model._ring = ring
    body = bytes(range(256)) * (2 * 32 * 32 * 3 // 256)
    request = Request(id="a", ttl_ms=1000, body=body, content_type=RAW)
    rows = model.preprocess(request)
    assert len(ring._free) == 2
    assert ring.first_slot(rows) == 0
    assert b"".join(row.tobytes() for row in rows) == body
    assert np.asarray(model.run(rows)).shape == (2, 1000)
    many = [model.preprocess(request) for _ in range(3)]
    assert len(ring._free) == 0
    assert all(b"".join(row.tobytes() for row in rows) == body for rows in many)
    del rows, many
    gc.collect()
    assert len(ring._free) == 4

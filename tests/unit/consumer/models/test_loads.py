"""What rows ask of the device: counted by the model where it names a unit, and never otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consumer.batching.load import ONE, Load
from consumer.models.base import Description
from consumer.models.loads import load_of, units_of
from consumer.pipeline.cancellations import Cancellations
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.items import Item, Refusal
from shared.wire.messages import Request
from shared.wire.outcomes import MODEL_ERROR
from tests.unit.consumer.parts import Toy, item


class Words(Toy):
    """A row is a list of words, and a word a unit."""

    def describe(self) -> Description:
        """Name the unit."""
        return Description((), (), unit="word")

    def preprocess(self, request: Request) -> Sequence[Any]:
        """A row for each line."""
        return [line.split() for line in (request.body or b"").splitlines()]

    def units(self, row: Any) -> int:
        """Fail on an empty row, as a user's code may."""
        return len(row) if row[0] else 0


def made(model: Toy, body: bytes) -> Item:
    one = item("a", body)
    Rows(model, 8, Cancellations()).make(one)
    return one


def test_a_row_is_a_unit_unless_the_model_names_one() -> None:
    assert units_of(Toy()) is None
    assert load_of(["a", "b"], None) == Load(2, 2, 1)
    assert load_of(["one"], None) == ONE
    assert load_of(["one", "three"], len) == Load(2, 8, 5)


def test_requests_carry_what_their_model_counts() -> None:
    assert made(Words(), b"a b c\nd").load == Load(2, 4, 3)
    assert made(Toy(), b"rows:3").load == Load(3, 3, 1)
    assert made(Toy(), b"a b c").load == ONE


def test_what_counting_raises_ends_one_request() -> None:
    with pytest.raises(Refusal) as refused:
        made(Words(), b"a\n\n")
    assert refused.value.refused.error.outcome is MODEL_ERROR

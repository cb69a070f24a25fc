"""A model of the user's own is run in parts that fit, and is otherwise left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consumer.models.base import Model
from consumer.models.own.checked_model import CheckedModel
from consumer.runtimes.oom_splitting import OomSplitting
from tests.unit.consumer.parts import Toy
from tests.unit.consumer.runtimes.test_oom_splitting import OutOfMemoryError


class Small(Toy):
    """Has room for three rows, and for none that says ``huge``."""

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Run out of memory, or do as a toy does."""
        if len(rows) > 3 or b"huge" in rows:
            raise OutOfMemoryError("Tried to allocate 20 GiB.")
        return super().run(rows)


def test_every_method_of_a_model_is_passed_on() -> None:
    names = {name for name, member in vars(Model).items() if callable(member) and not name.startswith("_")}
    assert names <= set(vars(CheckedModel))


def test_a_batch_that_does_not_fit_is_answered_in_parts_and_the_size_remembered() -> None:
    recovered = []
    small = Small()
    model = CheckedModel(small, lambda: recovered.append(1))
    assert model.run([b"a"]) == [b"A"]
    assert model.working_rows() is None
    rows = [b"%d" % number for number in range(10)]
    assert model.run(rows) == rows
    assert (model.working_rows(), len(recovered)) == (2, 2)
    small.batches.clear()
    assert model.run(rows) == rows
    assert {len(batch) for batch in small.batches} == {2}


def test_one_request_that_never_fits_does_not_make_the_batches_of_others_small() -> None:
    model = CheckedModel(Small(), lambda: None)
    with pytest.raises(OutOfMemoryError):
        model.run([b"a", b"huge", b"b"])
    assert model.working_rows() is None
    model.run([b"a"] * 4)
    with pytest.raises(OutOfMemoryError):
        model.run([b"a", b"b", b"c", b"huge"])
    assert model.working_rows() == 2


def test_an_output_that_is_missing_in_one_part_is_not_made_up_for_by_another() -> None:
    outputs = iter([["one"], ["two", "three", "four"]])
    run: OomSplitting[Sequence[Any]] = OomSplitting(lambda rows: next(outputs), 2)
    with pytest.raises(ValueError, match="returned 1 outputs for 2 rows"):
        run([1, 2, 3, 4])

"""What methods of a model of the user's own return: taken as what it plainly is, or refused in one sentence."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from consumer.models.base import Description
from consumer.models.own.checked_model import CheckedModel
from consumer.models.own.returned import Unusable
from shared.state.cards import TensorSpec
from shared.wire.messages import Request
from tests.unit.consumer.parts import Toy

REQUEST = Request("i", 1000, "application/octet-stream", b"x")
SPEC = TensorSpec("x", "FP32", (4,))


class Bad:
    """Raises wherever Python asks something of it."""

    def __len__(self) -> int:
        raise ZeroDivisionError("no length")

    def __bool__(self) -> bool:
        raise ZeroDivisionError("no truth")

    def __repr__(self) -> str:
        raise ZeroDivisionError("no repr")

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("no equality")


def fitted(method: str, value: Any) -> CheckedModel:
    """A model whose ``method`` returns ``value``."""
    toy = Toy()
    setattr(toy, method, lambda *arguments: value)
    return CheckedModel(toy, lambda: None)


@pytest.mark.parametrize("rows", [["a", "b"], ("a", "b"), iter("ab"), deque("ab"), np.array(["a", "b"])])
def test_rows_may_be_any_sequence_or_a_generator(rows: Any) -> None:
    found = fitted("preprocess", rows).preprocess(REQUEST)
    assert (len(found), [str(row) for row in found]) == (2, ["a", "b"])


@pytest.mark.parametrize("rows", [None, 3, "ab", b"ab", bytearray(2), {"x": 1}, {1, 2}, np.array(3), torch.tensor(1)])
def test_what_is_no_rows_is_refused(rows: Any) -> None:
    with pytest.raises((Unusable, TypeError)):
        fitted("preprocess", rows).preprocess(REQUEST)


def test_a_generator_without_an_end_is_not_waited_for() -> None:
    with pytest.raises(Unusable, match="more than 65536 rows"):
        fitted("preprocess", count()).preprocess(REQUEST)
    with pytest.raises(Unusable, match="returned more than 2 outputs for 2 rows"):
        fitted("run", count()).run([1, 2])
    with pytest.raises(Unusable, match=r"sample_rows\(2\) must return 2 rows, not more than 2"):
        fitted("sample_rows", count()).sample_rows(2)


@pytest.mark.parametrize(
    "outputs", [[1, 2], (1, 2), iter((1, 2)), deque((1, 2)), np.array([1, 2]), torch.tensor([1, 2]), np.zeros((2, 4))]
)
def test_outputs_may_be_any_sequence_an_array_or_a_generator(outputs: Any) -> None:
    found = fitted("run", outputs).run(["a", "b"])
    assert [len(found[0:1]), len(found[1:2])] == [1, 1]


@pytest.mark.parametrize("rows", [["a"], ["a", "b"]])
@pytest.mark.parametrize(
    "outputs",
    [None, 3, "ab", b"ab", {"logits": [1]}, {1}, np.float32(3), np.array(3), torch.tensor(3), [1, 2, 3], [], (), Bad()],
)
def test_what_is_not_one_output_per_row_fails_the_batch_and_is_no_lack_of_memory(outputs: Any, rows: list[str]) -> None:
    model = fitted("run", outputs)
    with pytest.raises(Unusable):
        model.run(rows)
    assert model.working_rows() is None


@pytest.mark.parametrize("use_up", [lambda rows: [rows.pop(0) for _ in list(rows)], lambda rows: rows.clear() or []])
def test_a_model_that_uses_its_rows_up_is_held_to_how_many_it_got(use_up: Any) -> None:
    toy = Toy()
    toy.run = use_up  # type: ignore[method-assign]
    model, rows = CheckedModel(toy, lambda: None), ["a", "b"]
    if use_up(["a"]):
        assert model.run(rows) == ["a", "b"]
    else:
        with pytest.raises(Unusable, match="returned 0 outputs for 2 rows"):
            model.run(rows)
    assert rows == ["a", "b"], "whoever runs them again needs them"


@pytest.mark.parametrize("rows", [None, [], [1], "ab", {"a": 1, "b": 2}, 2])
def test_samples_are_as_many_as_asked_for(rows: Any) -> None:
    with pytest.raises(Unusable, match=r"sample_rows\(2\) must return"):
        fitted("sample_rows", rows).sample_rows(2)


@pytest.mark.parametrize(("said", "meant"), [(1, True), (None, False), (np.bool_(True), True), ("", False)])
def test_decodes_is_yes_or_no(said: Any, meant: bool) -> None:
    assert fitted("decodes", said).decodes(REQUEST) is meant


def test_precisions_are_names() -> None:
    assert list(fitted("precisions", (name for name in ("fp32", "bf16"))).precisions("cpu")) == ["fp32", "bf16"]
    for wrong in ("bf16", None, (), ("fp8",), ("auto",), [None]):
        with pytest.raises(Unusable, match=r"precisions\(\) must"):
            fitted("precisions", wrong).precisions("cpu")


@pytest.mark.parametrize("wrong", [None, 0, -1, 1.5, "3", [], 1 << 31, Bad(), np.zeros(2)])
def test_units_are_whole_numbers(wrong: Any) -> None:
    assert fitted("units", np.int64(7)).units("row") == 7
    with pytest.raises(Unusable, match=r"units\(\) must return a whole number"):
        fitted("units", wrong).units("row")


@pytest.mark.parametrize("wrong", [None, "", "two words", "tokens/s", 3, "a" * 33, "\ud800"])
def test_a_unit_is_a_word(wrong: Any) -> None:
    assert fitted("describe", Description((), (), unit="token")).describe().unit == "token"
    with pytest.raises(Unusable, match="unit of the Description must be a word"):
        fitted("describe", Description((), (), unit=wrong)).describe()


def test_a_model_that_counts_says_what() -> None:
    class Counts(Toy):
        def units(self, row: Any) -> int:
            return len(row)

    with pytest.raises(Unusable, match="names a unit other than row"):
        CheckedModel(Counts(), lambda: None).describe()


@pytest.mark.parametrize("wrong", ["x", [], float("nan"), -1.0, Bad(), np.zeros(2)])
def test_a_count_that_is_none_is_not_kept(wrong: Any) -> None:
    assert fitted("device_busy_s", wrong).device_busy_s() is None
    assert fitted("padded_rows", wrong).padded_rows() == 0


def test_a_count_that_raises_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def exits() -> float:
        raise SystemExit(3)

    toy = Toy()
    toy.device_busy_s = exits  # type: ignore[method-assign]
    model = CheckedModel(toy, lambda: None)
    assert [model.device_busy_s() for _ in range(3)] == [None] * 3
    assert [record.message for record in caplog.records] == [
        "device_busy_s() does not count, so nothing is counted: SystemExit(3)"
    ]


def test_counts_of_numpy_count() -> None:
    assert fitted("device_busy_s", np.float32(1.5)).device_busy_s() == 1.5
    assert fitted("padded_rows", np.int64(3)).padded_rows() == 3


def test_a_description_becomes_plain() -> None:
    spec = TensorSpec(np.str_("x"), "FP32", [np.int64(4)])  # type: ignore[arg-type]
    said = Description([spec], [spec], ["a/b"], labels=np.array(["cat"]), warnings=[])  # type: ignore[arg-type]
    found = fitted("describe", said).describe()
    assert found == Description((SPEC,), (SPEC,), ("a/b",), ("cat",), ())
    assert type(found.inputs[0].shape[0]) is int


def test_content_types_are_those_that_requests_name() -> None:
    said = Description((SPEC,), (SPEC,), ("Text/Plain; charset=utf-8", "image/svg+xml", "text/plain"))
    assert fitted("describe", said).describe().content_types == ("text/plain", "image/svg+xml")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (None, r"describe\(\) must return a Description, not None"),
        ({}, r"describe\(\) must return a Description, not a dict"),
        (Description(SPEC, ()), "inputs of the Description must be a sequence of TensorSpecs"),  # type: ignore[arg-type]
        (Description(("x",), ()), r"inputs\[0\] of the Description must be a TensorSpec, not a str"),  # type: ignore[arg-type]
        (Description((), (SPEC, SPEC)), "outputs of the Description have the name x twice"),
        (Description((TensorSpec("", "FP32", ()),), ()), "must have a name"),
        (Description((TensorSpec("x", "float32", ()),), ()), "must have one of the datatypes BYTES, BOOL"),
        (Description((TensorSpec("x", "FP32", 4),), ()), "must have a shape"),  # type: ignore[arg-type]
        (Description((TensorSpec("x", "FP32", (-2,)),), ()), "must have a shape"),
        (Description((TensorSpec("x", "FP32", (None,)),), ()), "must have a shape"),  # type: ignore[arg-type]
        (Description((TensorSpec("x", "FP32", (1,) * 16),), ()), "must have a shape of at most 15"),
        (Description((), (), "image/png"), "content_types of the Description must be a sequence of texts"),  # type: ignore[arg-type]
        (Description((), (), labels=(1, 2)), "labels of the Description must be texts, but number 0 is an int"),  # type: ignore[arg-type]
        (Description((), (), labels=()), "labels of the Description must be None"),
        (Description((), (), warnings="careful"), "warnings of the Description"),  # type: ignore[arg-type]
        (
            Description((), (), warnings=("ok", "\udcff")),
            "number 1 of warnings of the Description holds half a character",
        ),
        (Description((), (), labels=("\ud800",)), "number 0 of labels of the Description holds half a character"),
        (Description((TensorSpec("x\udcff", "FP32", ()),), ()), r"name of inputs\[0\] of the Description holds half"),
        (Description((), (), ("",)), "content_types of the Description must be media types such as text/plain, not ''"),
        (Description((), (), ("text",)), "must be media types"),
        (Description((), (), ("image/jpeg\r\nX: y",)), "must be media types"),
        (Description((), (), ("Application/JSON",)), "cannot have application/json: a body of that type holds inputs"),
    ],
)
def test_a_description_that_is_none_is_refused_in_one_sentence(said: Any, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        fitted("describe", said).describe()

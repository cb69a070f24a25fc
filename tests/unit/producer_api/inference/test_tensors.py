"""Tensors in JSON and msgpack."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import msgpack
import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.inference.tensors import check_inputs_in_steps
from producer_api.parsing.elements import is_finite, pack_elements, unpack_elements
from producer_api.parsing.schemas import InputTensor, MsgpackTensor
from producer_api.parsing.steps import at_once
from shared.state.cards import ITEM_BYTES, Card, TensorSpec
from shared.wire.messages import Tensor
from shared.wire.outcomes import RequestError
from tests.fakes import card

_NUMPY = {
    "BOOL": "?",
    "UINT8": "<u1",
    "INT8": "<i1",
    "UINT16": "<u2",
    "INT16": "<i2",
    "UINT32": "<u4",
    "INT32": "<i4",
    "UINT64": "<u8",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_CARD = card("m", [TensorSpec("x", "INT16", (2, 3))], max_batch=4)


def check_inputs(inputs: Sequence[InputTensor | MsgpackTensor], card: Card) -> tuple[Tensor, ...]:
    return at_once(check_inputs_in_steps(inputs, card))


def _in_json(shape: list[int], data: Any, datatype: str = "INT16", name: str = "x") -> InputTensor:
    document = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return msgspec.json.decode(json.dumps(document), type=InputTensor)


def _in_msgpack(shape: list[int], data: Any, datatype: str = "INT16", name: str = "x") -> MsgpackTensor:
    document = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return msgspec.msgpack.decode(msgpack.packb(document), type=MsgpackTensor)


def _one(datatype: str, shape: list[int], data: Any, *, as_msgpack: bool = False) -> Tensor:
    spec = card("m", [TensorSpec("x", datatype, (-1,))], max_batch=4)
    tensor = _in_msgpack(shape, data, datatype) if as_msgpack else _in_json(shape, data, datatype)
    return check_inputs([tensor], spec)[0]


def _field_of(*tensors: InputTensor | MsgpackTensor) -> str | None:
    with pytest.raises(RequestError) as caught:
        check_inputs(tensors, _CARD)
    assert caught.value.outcome.status == 422
    return caught.value.field


def test_every_datatype_is_covered() -> None:
    assert set(_NUMPY) == set(ITEM_BYTES)


@pytest.mark.parametrize("datatype", sorted(_NUMPY))
@given(source=st.data())
def test_elements_come_back(datatype: str, source: st.DataObject) -> None:
    kind = numpy.dtype(_NUMPY[datatype])
    raw = source.draw(st.binary(max_size=8).map(lambda data: data * kind.itemsize))
    if datatype == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    array = numpy.frombuffer(raw, kind)
    finite = bool(numpy.isfinite(array).all())
    assert is_finite(datatype, raw) is finite
    elements = unpack_elements(datatype, raw)
    expected = [value if math.isfinite(value) else None for value in array.tolist()]
    assert elements == expected
    if finite and len(elements):
        for as_msgpack in (False, True):
            tensor = _one(datatype, [len(elements)], elements, as_msgpack=as_msgpack)
            assert tensor == Tensor("x", datatype, (1, len(elements)), raw)
        assert _one(datatype, [len(elements)], raw, as_msgpack=True).data == raw


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256),
        ("UINT8", -1),
        ("INT8", 128),
        ("INT16", -32769),
        ("UINT32", 2**32),
        ("INT64", 2**63),
        ("INT64", 10**40),
        ("UINT64", -1),
        ("UINT64", 2**64),
        ("UINT8", 1.5),
        ("UINT8", True),
        ("UINT8", "1"),
        ("UINT8", None),
        ("FP16", 65520),
        ("FP32", 3.5e38),
        ("FP64", "x"),
        ("BOOL", 1),
        ("BYTES", 1),
    ],
)
def test_elements_out_of_range(datatype: str, value: Any) -> None:
    good: Any = {"BOOL": True, "BYTES": ""}.get(datatype, 0)
    for as_msgpack in (False, True):
        if as_msgpack and isinstance(value, int) and not -(2**63) <= value < 2**64:
            continue
        with pytest.raises(RequestError) as caught:
            _one(datatype, [2], [good, value], as_msgpack=as_msgpack)
        assert caught.value.outcome.status == 422
        assert str(caught.value.field).startswith("inputs[0].data")


def test_numbers_that_are_not_finite_in_msgpack() -> None:
    for datatype, code in (("FP16", "e"), ("FP32", "f"), ("FP64", "d")):
        for value in (math.nan, math.inf, -math.inf):
            for data in ([0.0, value], struct.pack(f"<2{code}", 0.0, value)):
                with pytest.raises(RequestError) as caught:
                    _one(datatype, [2], data, as_msgpack=True)
                assert str(caught.value.field).startswith("inputs[0].data")
    largest = struct.pack("<f", 3.4028234663852886e38)
    assert _one("FP32", [1], largest, as_msgpack=True).data == largest


def test_strings() -> None:
    packed = _one("BYTES", [3], ["", "a", "ä€"]).data
    assert packed == b"\0\0\0\0\1\0\0\0a\5\0\0\0" + "ä€".encode()
    assert unpack_elements("BYTES", packed) == ["", "a", "ä€"]
    assert _one("BYTES", [3], packed, as_msgpack=True).data == packed
    with pytest.raises(RequestError):
        _one("BYTES", [2], packed, as_msgpack=True)


def test_one_row_several_rows_flat_and_nested() -> None:
    flat = [1, 2, 3, 4, 5, 6]
    expected = pack_elements("INT16", flat)
    assert check_inputs([_in_json([2, 3], flat)], _CARD)[0] == Tensor("x", "INT16", (1, 2, 3), expected)
    assert check_inputs([_in_json([2, 3], [[1, 2, 3], [4, 5, 6]])], _CARD)[0].data == expected
    assert check_inputs([_in_json([1, 2, 3], [[[1, 2, 3], [4, 5, 6]]])], _CARD)[0].data == expected
    two = check_inputs([_in_json([2, 2, 3], flat + flat)], _CARD)[0]
    assert (two.shape, two.data) == ((2, 2, 3), expected * 2)


@pytest.mark.parametrize(
    ("shape", "data", "field"),
    [
        ([3, 2], [1] * 6, "inputs[0].shape"),
        ([], [1], "inputs[0].shape"),
        ([1, 1, 2, 3], [1] * 6, "inputs[0].shape"),
        ([0, 2, 3], [], "inputs[0].shape"),
        ([5, 2, 3], [1] * 30, "inputs[0].shape"),
        ([2, 3], [1] * 5, "inputs[0].data"),
        ([2, 3], [1] * 7, "inputs[0].data"),
        ([2, 3], [], "inputs[0].data"),
        ([2, 3], [[1, 2], [3, 4], [5, 6]], "inputs[0].data"),
        ([2, 3], [[1, 2, 3], [4, 5]], "inputs[0].data"),
        ([2, 3], [[[1, 2, 3], [4, 5, 6]]], "inputs[0].data"),
        ([2, 3], [[1, 2, 3], 4], "inputs[0].data[1]"),
        ([2, 3], 5, "inputs[0].data"),
        ([2, 3], {"a": 1}, "inputs[0].data"),
        ([2, 3], None, "inputs[0].data"),
    ],
)
def test_shapes_and_nesting_that_do_not_fit(shape: list[int], data: Any, field: str) -> None:
    assert _field_of(_in_json(shape, data)) == field
    assert _field_of(_in_msgpack(shape, data)) == field


def test_names_and_datatypes_that_do_not_fit() -> None:
    good = _in_json([2, 3], [1] * 6)
    assert _field_of(good, good) == "inputs[1].name"
    assert _field_of(good, _in_json([2, 3], [1] * 6, name="y")) == "inputs[1].name"
    assert _field_of(_in_json([2, 3], [1] * 6, datatype="INT8")) == "inputs[0].datatype"
    assert _field_of(_in_json([2, 3], [1] * 6, datatype="FP17")) == "inputs[0].datatype"


def test_several_inputs_agree_in_rows_and_come_in_the_order_of_the_card() -> None:
    two = card("m", [TensorSpec("a", "UINT8", (1,)), TensorSpec("b", "UINT8", ())], max_batch=4)
    a, b = _in_json([2, 1], [1, 2], "UINT8", "a"), _in_json([2], [3, 4], "UINT8", "b")
    assert [tensor.name for tensor in check_inputs([b, a], two)] == ["a", "b"]
    with pytest.raises(RequestError) as caught:
        check_inputs([a], two)
    assert caught.value.field == "inputs"
    with pytest.raises(RequestError) as caught:
        check_inputs([a, _in_json([3], [3, 4, 5], "UINT8", "b")], two)
    assert caught.value.field == "inputs[1].shape"

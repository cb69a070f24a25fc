"""Messages cut into parts: the same as protobuf reads, whatever their size, and bounded for whatever is sent."""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.service_pb2 import InferTensorContents, ModelInferRequest

from producer_api.grpc import message_cuts
from producer_api.grpc.message_cuts import CONTENTS_OF, cut, elements, elements_in_steps, names
from producer_api.grpc.wire_format import encode_varint, parts, varint
from producer_api.parsing.steps import at_once
from shared.wire.outcomes import RequestError

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "INT8": [-128, 127],
    "INT16": [-(1 << 15), 5],
    "INT32": [-(1 << 31), (1 << 31) - 1],
    "INT64": [-(1 << 63), 1],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, (1 << 32) - 1],
    "UINT64": [0, (1 << 64) - 1],
    "FP32": [1.5, -2.0],
    "FP64": [0.1, 1e300],
    "BYTES": [b"", b"two"],
}
CODES = dict(zip(VALUES, "?bhiqBHIQfd", strict=False))


def packed(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    return struct.pack(f"<{len(values)}{CODES[datatype]}", *values)


def request(datatype: str, values: list[Any]) -> bytes:
    made = ModelInferRequest(model_name="m", id="i")
    one = made.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    getattr(one.contents, CONTENTS_OF[datatype][0]).extend(values)
    serialized: bytes = made.SerializeToString()
    return serialized


def read(message: bytes, datatype: str) -> bytes:
    found = cut(message)
    if 0 in found.long:
        return at_once(elements_in_steps(message, found.long[0], datatype, "inputs[0]"))
    return elements(found.request.inputs[0].contents, datatype, "inputs[0]")


@pytest.mark.parametrize("count", [1, 100, 50_000])
@pytest.mark.parametrize("datatype", VALUES)
def test_typed_contents_become_the_bytes_of_a_tensor(datatype: str, count: int) -> None:
    values = VALUES[datatype] * count
    message = request(datatype, values)
    assert read(message, datatype) == packed(datatype, values)
    assert (names(message), cut(message).request.id) == ({"model": "m"}, "i")


def test_lists_that_are_not_packed_are_read_as_well() -> None:
    tag = encode_varint(2 << 3)
    contents = b"".join(tag + encode_varint(value % 300) for value in range(60_000))
    one = b"\x0a\x01x" + b"\x2a" + encode_varint(len(contents)) + contents
    message = b"\x2a" + encode_varint(len(one)) + one
    assert read(message, "INT32") == packed("INT32", [value % 300 for value in range(60_000)])


def test_long_contents_are_read_with_pauses() -> None:
    message = request("INT32", list(range(300_000)))
    steps: Generator[None, None, bytes] = elements_in_steps(message, cut(message).long[0], "INT32", "inputs[0]")
    assert sum(1 for _ in steps) > 10


def test_raw_tensors_are_taken_out() -> None:
    made = ModelInferRequest(model_name="m", raw_input_contents=[b"a" * 200_000, b"", b"c"])
    made.inputs.add(name="x", datatype="UINT8", shape=[1, 200_000])
    found = cut(made.SerializeToString())
    assert list(found.raw) == [b"a" * 200_000, b"", b"c"]
    assert not found.request.raw_input_contents
    assert found.request.inputs[0].name == "x"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\xff", "cut off"),
        (b"\x0a\x7fshort", "cut off"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "number 0"),
        (b"\x0a\x01\xff", "not a valid ModelInferRequest"),
        (b"\x2a\x00" * 600, "more than 512 fields"),
        (b"\x0a" + encode_varint(200_000) + b"n" * 200_000, "more than 131072 bytes"),
        (b"\xff" * 11, "too long"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(message: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        cut(message)


def test_a_long_input_of_too_many_fields_is_refused() -> None:
    one = b"\x22\x00" * 40_000  # parameters without name and value
    with pytest.raises(RequestError, match="An input has more than 512 fields"):
        cut(b"\x2a" + encode_varint(len(one)) + one)


@pytest.mark.parametrize(
    ("contents", "datatype", "said"),
    [
        (InferTensorContents(int_contents=[128]), "INT8", "out of range for INT8"),
        (InferTensorContents(uint_contents=[70_000]), "UINT16", "out of range for UINT16"),
        (InferTensorContents(int_contents=[1]), "FP32", "belong into fp32_contents, not int_contents"),
        (InferTensorContents(fp32_contents=[1]), "FP16", "has no typed contents"),
        (InferTensorContents(), "X" * 500, "'XXXXXXXXXXXXXXXX' has no typed contents"),
    ],
)
def test_contents_that_do_not_fit_are_refused(contents: Any, datatype: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        elements(contents, datatype, "inputs[0]")


def test_a_number_that_never_ends_is_refused() -> None:
    contents = b"\x12" + encode_varint(100_000) + b"\xff" * 100_000
    one = b"\x2a" + encode_varint(len(contents)) + contents
    message = b"\x2a" + encode_varint(len(one)) + one
    with pytest.raises(RequestError, match=r"inputs\[0\]|cannot be read"):
        read(message, "INT32")


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(message: bytes) -> None:
    names(message)
    try:
        found = cut(message)
    except RequestError:
        return
    again = ModelInferRequest.FromString(message)
    assert list(found.raw) == list(again.raw_input_contents)
    assert [one.name for one in found.request.inputs] == [one.name for one in again.inputs]


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_of_variable_length(value: int) -> None:
    assert varint(encode_varint(value) + b"\xff", 0) == (value, len(encode_varint(value)))


def test_parts_name_their_places() -> None:
    message = b"\x0a\x02hi\x10\x05\x1d\0\0\0\0\x21\0\0\0\0\0\0\0\0"
    found = list(parts(message, 0, len(message)))
    assert [(one.number, one.kind) for one in found] == [(1, 2), (2, 0), (3, 5), (4, 1)]
    assert [message[one.start : one.stop] for one in found[:2]] == [b"hi", b"\x05"]
    assert message_cuts.MOST_PARTS == 512

"""What a body costs stands in proportion to its bytes, whatever is in it."""

from __future__ import annotations

import struct

import msgpack
import pytest

from producer_api.inference.codec import Limits
from producer_api.inference.decoding import decode_in_steps
from producer_api.inference.negotiation import JSON, MSGPACK
from producer_api.parsing.steps import at_once
from shared.state.cards import TensorSpec
from shared.wire.outcomes import RequestError
from tests.fakes import card
from tests.helpers import first
from tests.memory import peak_bytes

SIZE = 1 << 19  # several of the pieces that bodies are cut into, which are 256 KiB at most
MOST_TIMES = 20
"""A number of one byte can be a FP64 of eight, which are joined from pieces; the body itself is not counted."""


def _decode(kind: str, body: bytes, datatype: str) -> str:
    one = card("m", [TensorSpec("x", datatype, (-1,))], max_batch=1 << 30)
    try:
        at_once(decode_in_steps(kind, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None))
    except RequestError as error:
        return error.outcome.code
    return "ok"


def in_json(data: bytes, shape: bytes = b"[1]", datatype: bytes = b"FP32") -> bytes:
    return b'{"inputs":[{"name":"x","shape":%b,"datatype":"%b","data":%b}]}' % (shape, datatype, data)


def in_msgpack(data: bytes, shape: list[int], datatype: str = "FP32") -> bytes:
    head: bytes = msgpack.packb({"name": "x", "shape": shape, "datatype": datatype})
    return b"\x81\xa6inputs\x91" + bytes([head[0] + 1]) + head[1:] + b"\xa4data" + data


def array_of(count: int) -> bytes:
    return b"\xdd" + struct.pack(">I", count)


def listed(element: bytes, size: int = SIZE) -> bytes:
    return b"[" + b",".join([element] * (size // (len(element) + 1))) + b"]"


COUNT = SIZE // 2
BODIES: dict[str, tuple[str, bytes, str, str]] = {
    "msgpack: empty maps": (MSGPACK, array_of(SIZE) + b"\x80" * SIZE, "FP32", "invalid_input"),
    "msgpack: empty maps as inputs": (MSGPACK, b"\x81\xa6inputs" + array_of(SIZE) + b"\x80" * SIZE, "FP32",
                                      "invalid_input"),
    "msgpack: empty maps as data": (MSGPACK, in_msgpack(array_of(SIZE) + b"\x80" * SIZE, [SIZE]), "FP32",
                                    "invalid_input"),
    "msgpack: one list of empty maps among numbers": (
        MSGPACK, in_msgpack(array_of(2) + array_of(SIZE) + b"\x80" * SIZE + b"\x01", [2]), "FP32", "invalid_input"),
    "msgpack: numbers of a byte": (MSGPACK, in_msgpack(array_of(SIZE) + b"\x01" * SIZE, [SIZE]), "FP32", "ok"),
    "msgpack: numbers of a byte as bytes of 8": (MSGPACK, in_msgpack(array_of(SIZE) + b"\x01" * SIZE, [SIZE], "FP64"),
                                                 "FP64", "ok"),
    "msgpack: lists of one": (MSGPACK, in_msgpack(array_of(COUNT) + b"\x91\x01" * COUNT, [COUNT, 1]), "FP32", "ok"),
    "msgpack: short texts": (
        MSGPACK, in_msgpack(array_of(SIZE // 3) + b"\xa2ab" * (SIZE // 3), [SIZE // 3], "BYTES"), "BYTES", "ok"),
    "msgpack: a long shape": (MSGPACK, b"\x81\xa6inputs\x91\x81\xa5shape" + array_of(SIZE) + b"\x01" * SIZE, "FP32",
                              "invalid_input"),
    "msgpack: members that nobody knows": (
        MSGPACK, b"\xdf" + struct.pack(">I", SIZE // 4) + b"\xa2ab\x80" * (SIZE // 4), "FP32", "invalid_input"),
    "msgpack: an input again and again": (
        MSGPACK, b"\xdf" + struct.pack(">I", SIZE // 8) + b"\xa6inputs\xc0" * (SIZE // 8), "FP32", "invalid_input"),
    "msgpack: huge numbers": (MSGPACK, in_msgpack(array_of(SIZE // 9) + (b"\xcf" + b"\xff" * 8) * (SIZE // 9),
                                                  [SIZE // 9]), "FP32", "ok"),
    "JSON: numbers": (JSON, in_json(listed(b"1"), b"[%d]" % COUNT), "FP32", "ok"),
    "JSON: numbers as bytes of 8": (JSON, in_json(listed(b"1"), b"[%d]" % COUNT, b"FP64"), "FP64", "ok"),
    "JSON: lists of one": (JSON, in_json(listed(b"[1]"), b"[%d,1]" % (SIZE // 4)), "FP32", "ok"),
    "JSON: empty lists": (JSON, in_json(listed(b"[]"), b"[%d]" % (SIZE // 3)), "FP32", "invalid_input"),
    "JSON: empty maps": (JSON, in_json(listed(b"{}"), b"[%d]" % (SIZE // 3)), "FP32", "invalid_input"),
    "JSON: short texts": (JSON, in_json(listed(b'"ab"'), b"[%d]" % (SIZE // 5), b"BYTES"), "BYTES", "ok"),
    "JSON: digits": (JSON, in_json(b"[" + b"1" * SIZE + b"]"), "FP32", "invalid_input"),
    "JSON: more numbers than the shape takes": (JSON, in_json(listed(b"1")), "FP32", "invalid_input"),
    "JSON: a list of maps that nobody knows": (JSON, b'{"x":' + listed(b"{}") + b"}", "FP32", "invalid_input"),
    "JSON: maps in maps": (JSON, b'{"x":' * (SIZE // 5), "FP32", "malformed"),
    "JSON: a long shape": (JSON, in_json(b"[1]", listed(b"1000")), "FP32", "invalid_input"),
    "JSON: tensors without end": (JSON, b'{"inputs":' + listed(b'{"name":"x","shape":[],"datatype":"","data":0}')
                                  + b"}", "FP32", "invalid_input"),
    "JSON: parameters again and again": (JSON, b"{" + listed(b'"parameters":{}')[1:-1] + b"}", "FP32",
                                         "invalid_input"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "datatype", "code"), first(12, BODIES.values()), ids=BODIES.keys())
def test_memory_stays_in_proportion_to_the_body(kind: str, body: bytes, datatype: str, code: str) -> None:
    found: list[str] = []
    peak = peak_bytes(lambda: found.append(_decode(kind, body, datatype)))
    assert peak < MOST_TIMES * len(body)
    assert found[0] in (code, "malformed", "invalid_input")
    if code == "ok":
        assert found == ["ok"]

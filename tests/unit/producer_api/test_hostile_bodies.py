"""Bodies made to harm: rows 31 to 34 of the list of bad input."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory import resident_bytes
from tests.unit.producer_api.asgi import Api

JSON, MSGPACK = "application/json", "application/msgpack"
MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * MEGABYTE, JSON),
        (b'{"a":' * MEGABYTE, JSON),
        (b'{"inputs":' + b"[" * MEGABYTE, JSON),
        (b"\x91" * MEGABYTE, MSGPACK),
        (b"\x81\xa1a" * MEGABYTE, MSGPACK),
        (b"", JSON),
        (b"{", JSON),
        (b"nul", JSON),
        (b"{} {}", JSON),
        (b"\xff\xfe", JSON),
        (b'{"inputs": NaN}', JSON),
        (b'{"image_base64": "\xff"}', JSON),
        (b"\xc1", MSGPACK),
        (b"\x81", MSGPACK),
        (b"\x80\x80", MSGPACK),
        (b"\xa1\xff", MSGPACK),
    ],
)
def test_what_cannot_be_parsed(api: Api, body: bytes, kind: str) -> None:
    answer = api.post("echo", body, kind)
    assert (answer.status, answer.error["field"]) == (400 if body else 422, "body")


def test_nesting_inside_data(api: Api) -> None:
    head = b'{"inputs":[{"name":"input","shape":[1],"datatype":"UINT8","data":'
    assert api.post("echo", head + b"[" * MEGABYTE, JSON).status == 400
    assert api.post("echo", head + b"[" * 500 + b"]" * 500 + b"}]}", JSON).error["field"] == "inputs[0].data"
    assert api.post("echo", head + b'["\xff"]}]}', JSON).status in (400, 422)
    assert api.post("echo", head + b"[1,}]}", JSON).status == 400


@pytest.mark.parametrize("code", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_few_bytes_that_promise_four_gigabytes(api: Api, code: bytes) -> None:
    before = resident_bytes()
    for body in (code + b"\xff\xff\xff\xff", b"\x81\xa6inputs" + code + b"\xff\xff\xff\xff\x01"):
        assert api.post("echo", body, MSGPACK).error["code"] == "malformed"
    assert resident_bytes() - before < 32 * MEGABYTE


def test_integer_keys_extension_types_and_timestamps(api: Api) -> None:
    million = (
        b"\xdf"
        + struct.pack(">I", 1_000_000)
        + b"".join(b"\xce" + struct.pack(">I", n) + b"\0" for n in range(1_000_000))
    )
    bodies = [
        million,
        msgpack.packb({1: 2}),
        msgpack.packb({"inputs": msgpack.ExtType(5, b"x")}),
        msgpack.packb(msgpack.ExtType(1, bytes(1000))),
    ]
    for body in bodies:
        answer = api.post("echo", body, MSGPACK)
        assert (answer.status, answer.error["code"]) == (400, "malformed"), body[:10]


def test_timestamps(api: Api) -> None:
    tensor = {**_good()["inputs"][0], "data": [1, 2, 3, msgpack.Timestamp(1)]}
    for document in (msgpack.Timestamp(1), {"inputs": msgpack.Timestamp(1)}, {"inputs": [tensor]}):
        assert api.msgpack("echo", document).status in (400, 422)
    assert not api.queue.submitted


def test_memory_stays_flat_over_thousands_of_bad_requests(api: Api) -> None:
    """Half of them are random, the other half are good messages cut off or changed in one place."""
    generator = random.Random(7)
    good = [
        (json.dumps(_good()).encode(), JSON),
        (msgpack.packb({**_good(), "image": bytes(100)}), MSGPACK),
        (msgpack.packb({n: n for n in range(2000)}), MSGPACK),
    ]

    def send(count: int) -> None:
        for number in range(count):
            body, kind = good[number % len(good)]
            changed = bytearray(generator.randbytes(200) if number % 2 else body[: generator.randrange(1, len(body))])
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
            assert api.post("echo", bytes(changed), kind).status in (200, 400, 422)
        api.queue.submitted.clear()

    send(1000)
    before = resident_bytes()
    send(2500)
    assert resident_bytes() - before < 8 * MEGABYTE


def _good() -> dict[str, Any]:
    tensor = {"name": "input", "shape": [4], "datatype": "UINT8", "data": [1, 2, 3, 4]}
    return {"inputs": [tensor], "parameters": {"top_k": 1, "timeout_ms": 1000}}


_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
_names = st.sampled_from(["input", "image", ""])
_tensors = st.fixed_dictionaries(
    {
        "name": _names | _values,
        "shape": st.lists(st.integers(-1, 5), max_size=4) | _values,
        "datatype": st.sampled_from(["UINT8", "FP32", "BYTES", "X"]) | _values,
        "data": st.lists(st.integers(0, 300), max_size=8) | _values,
    }
)
_documents = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(_tensors | _values, max_size=3) | _values,
        "image_base64": st.text(max_size=12) | _values,
        "image": st.binary(max_size=12) | _values,
        "parameters": st.fixed_dictionaries({}, optional={"top_k": _values, "timeout_ms": _values, "id": _values})
        | _values,
    },
)


@settings(max_examples=30, deadline=None)
@given(document=_documents | _values, model=st.sampled_from(["echo", "imagenet"]))
def test_no_document_makes_the_service_fail(document: Any, model: str) -> None:
    with Api() as api:
        packed = api.msgpack(model, document)
        assert packed.status in (200, 400, 422), packed.body
        text = json.dumps(document, default=lambda value: "", allow_nan=True)
        written = api.post(model, text.encode("utf-8", "surrogatepass"), JSON)
        assert written.status in (200, 400, 422), written.body
        for answer in (packed, written):
            if answer.status != 200:
                assert answer.error["field"]


@settings(max_examples=30, deadline=None)
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from([JSON, MSGPACK, "application/octet-stream", "image/jpeg"]),
    query=st.text(alphabet="topk_im=&%;1aé", max_size=30),
)
def test_no_bytes_make_the_service_fail(body: bytes, kind: str, query: str) -> None:
    with Api() as api:
        answer = api.post("imagenet", body, kind, query=query)
        assert answer.status in (200, 400, 422), answer.body

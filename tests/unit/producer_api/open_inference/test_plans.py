"""A JSON that is known means what it meant when it was new."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest

from producer_api.inference.codec import Decoded, Limits, head_of
from producer_api.inference.open_inference import plans
from producer_api.inference.open_inference.rest import OPEN_INFERENCE, PATHS, PLANS
from producer_api.parsing.steps import LARGE_BYTES
from shared.state.cards import PREDICTIONS, TENSORS, Card, TensorSpec
from shared.wire.outcomes import RequestError
from tests.fakes import CLASSIFIER, ECHO, card

LIMITS = Limits(1000, 60_000, 1 << 24)
FLOATS = card("floats", [TensorSpec("x", "FP32", (2,)), TensorSpec("n", "INT64", (-1,))])
LABELLED = msgspec.structs.replace(
    CLASSIFIER, outputs=(TensorSpec("logits", "FP32", (4,)),), answers=(PREDICTIONS, TENSORS), family="timm"
)


def document(*tensors: tuple[str, str, list[int], int], **more: Any) -> bytes:
    inputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, kind, shape, size in tensors
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


def decoded(head: bytes, tail: bytes, one: Card) -> Decoded:
    headers = {b"inference-header-content-length": b"%d" % len(head)}
    made = OPEN_INFERENCE.decode(
        "", head + tail, head_of(PATHS[0], OPEN_INFERENCE, {"model": one.name}, b"", headers), one, LIMITS, "id"
    )
    assert isinstance(made, Decoded)
    return made


@pytest.mark.parametrize(
    ("one", "head", "tail"),
    [
        (ECHO, document(("input", "UINT8", [1, 3], 3)), b"abc"),
        (ECHO, document(("input", "UINT8", [3, 2], 6), parameters={"timeout": 5001}), b"abcdef"),
        (LABELLED, document(("image", "UINT8", [1, 4, 4, 3], 48)), bytes(range(48))),
        (
            LABELLED,
            document(
                ("image", "UINT8", [2, 4, 4, 3], 96), outputs=[{"name": "logits", "parameters": {"classification": 2}}]
            ),
            bytes(range(96)),
        ),
        (
            FLOATS,
            document(("n", "INT64", [1, 2], 16), ("x", "FP32", [1, 2], 8), parameters={"binary_data_output": True}),
            struct.pack("<2q2f", 1, 2, 3, 4),
        ),
    ],
)
def test_the_second_request_is_as_the_first(one: Card, head: bytes, tail: bytes) -> None:
    first = decoded(head, tail, one)
    assert PLANS.get(head, one, len(tail)) is not None
    assert decoded(head, tail, one) == first
    other = bytes(reversed(tail)) if one is not FLOATS else struct.pack("<2q2f", 4, 3, 2, 1)
    changed = decoded(head, other, one)
    assert changed != first
    assert (changed.asked, changed.request.params, changed.request.ttl_ms) == (
        first.asked,
        first.request.params,
        first.request.ttl_ms,
    )


def test_another_card_is_asked_again() -> None:
    head = document(("input", "UINT8", [1, 4], 4))
    decoded(head, b"abcd", ECHO)
    narrower = msgspec.structs.replace(ECHO, inputs=(TensorSpec("input", "UINT8", (3,)),))
    with pytest.raises(RequestError):
        decoded(head, b"abcd", narrower)


@pytest.mark.parametrize("tail", [b"", b"abc", b"abcdefghi"])
def test_other_lengths_are_refused_as_before(tail: bytes) -> None:
    head = document(("input", "UINT8", [2, 2], 4))
    decoded(head, b"abcd", ECHO)
    with pytest.raises(RequestError):
        decoded(head, tail, ECHO)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_are_looked_at_each_time(number: float) -> None:
    head = document(("x", "FP32", [1, 2], 8), ("n", "INT64", [1, 1], 8))
    decoded(head, struct.pack("<2fq", 1, 2, 3), FLOATS)
    with pytest.raises(RequestError) as caught:
        decoded(head, struct.pack("<2fq", 1, number, 3), FLOATS)
    assert caught.value.field == "inputs[0].data"


def test_what_differs_from_request_to_request_or_is_long_is_not_remembered() -> None:
    for head, tail in (
        (document(("input", "UINT8", [1, 5], 5), id="a"), b"abcde"),
        (document(("input", "UINT8", [1, 5], 5)) + b" " * plans.MOST_BYTES, b"abcde"),
    ):
        decoded(head, tail, ECHO)
        assert PLANS.get(head, ECHO, len(tail)) is None
    many = LARGE_BYTES // 8
    assert PLANS.get(document(("x", "FP32", [1, 2], 8), ("n", "INT64", [1, many], 8 * many)), FLOATS, 9 * many) is None


def test_so_many_are_remembered() -> None:
    for size in range(1, plans.MOST + 20):
        decoded(document(("input", "UINT8", [1, size], size)), bytes(size), ECHO)
    assert len(PLANS._known) == plans.MOST

"""What makes two requests equal."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from producer_api.caching.key import MOST_BYTES, Identity, key_of
from shared.wire.messages import Request, Tensor

V1 = Identity("1", "fp32")
TENSOR = Tensor("input", "UINT8", (1, 4), b"abcd")
BODY = Request("id", 1000, content_type="image/jpeg", body=b"abcd", params={"top_k": 3})
INPUTS = Request("id", 1000, inputs=(TENSOR,))


def keys(*requests: Request) -> set[bytes | None]:
    return {key_of(one, V1, b"") for one in requests}


def changed(request: Request, **members: Any) -> Request:
    return msgspec.structs.replace(request, **members)


def test_what_is_no_part_of_the_question_makes_no_difference() -> None:
    for request in (BODY, INPUTS):
        assert (
            len(keys(request, changed(request, id="other", ttl_ms=5, reply_to="fe", traceparent="t", keep_ms=9))) == 1
        )
    assert len(keys(changed(BODY, params={"a": 1, "b": 2}), changed(BODY, params={"b": 2, "a": 1}))) == 1


def test_whatever_the_model_may_see_makes_a_difference() -> None:
    tensors = [
        Tensor("other", "UINT8", (1, 4), b"abcd"),
        Tensor("input", "INT8", (1, 4), b"abcd"),
        Tensor("input", "UINT8", (2, 2), b"abcd"),
        Tensor("input", "UINT8", (1, 4), b"abce"),
    ]
    two = (Tensor("a", "UINT8", (1, 2), b"ab"), Tensor("b", "UINT8", (1, 2), b"cd"))
    moved = (Tensor("a", "UINT8", (1, 3), b"abc"), Tensor("b", "UINT8", (1, 1), b"d"))
    asked = [
        BODY,
        changed(BODY, body=b"abce"),
        changed(BODY, content_type="image/png"),
        *(changed(BODY, params={"top_k": value}) for value in (4, 3.0, "3", True, None)),
        changed(BODY, params={"top_j": 3}),
        changed(BODY, params={}),
        INPUTS,
        *(changed(INPUTS, inputs=(one,)) for one in tensors),
        changed(INPUTS, inputs=(TENSOR, TENSOR)),
        changed(INPUTS, inputs=two),
        changed(INPUTS, inputs=moved),
    ]
    assert len(keys(*asked)) == len(asked)
    assert len({key_of(BODY, one, b"") for one in (V1, Identity("2", "fp32"), Identity("1", "fp16"))}) == 3
    assert len({key_of(BODY, V1, tenant) for tenant in (b"", b"a", b"b")}) == 3


def test_what_is_not_here_or_too_large_has_no_key() -> None:
    assert key_of(changed(BODY, body=None, at_store="batches/1"), V1, b"") is None
    assert key_of(changed(BODY, body=bytes(MOST_BYTES)), V1, b"") is not None
    assert key_of(changed(BODY, body=bytes(MOST_BYTES + 1)), V1, b"") is None


Scalar = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.0]) | st.text("ab", max_size=2)
Requests = st.builds(
    lambda kind, body, params: Request("id", 1, content_type=kind, body=body, params=params),
    st.sampled_from(["a", "b"]),
    st.binary(max_size=3),
    st.dictionaries(st.text("ab", min_size=1, max_size=2), Scalar, max_size=2),
)


@given(Requests, Requests)
def test_keys_are_equal_exactly_where_requests_are(one: Request, other: Request) -> None:
    def seen(request: Request) -> object:
        typed = {name: (type(value), value) for name, value in request.params.items()}
        return request.content_type, request.body, typed

    assert (key_of(one, V1, b"") == key_of(other, V1, b"")) == (seen(one) == seen(other))

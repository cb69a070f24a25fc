"""What makes two requests equal."""

from __future__ import annotations

from typing import Any

import msgspec
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from producer_api.caching.key import KNOWN_BYTES, MOST_BYTES, SHORT_BYTES, KnownBodies, bytes_of, key_of
from shared.wire.messages import Request, Tensor

TENSOR = Tensor("input", "UINT8", (1, 4), b"abcd")
BODY = Request("id", 1000, content_type="image/jpeg", body=b"abcd", params={"top_k": 3})
INPUTS = Request("id", 1000, inputs=(TENSOR,))


def key(request: Request, tenant: bytes = b"") -> Any:
    return key_of(request, tenant, KnownBodies())


def keys(*requests: Request) -> set[Any]:
    return {key(one) for one in requests}


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
    assert len({key(BODY, tenant) for tenant in (b"", b"a", b"b")}) == 3


def test_what_is_not_here_or_too_large_has_no_key() -> None:
    assert key(changed(BODY, body=None, at_store="batches/1")) is None
    assert key(changed(BODY, body=bytes(MOST_BYTES))) is not None
    assert key(changed(BODY, body=bytes(MOST_BYTES + 1))) is None


def test_long_inputs_make_the_same_difference() -> None:
    long = bytes(range(256)) * 8
    tensor = Tensor("input", "UINT8", (1, len(long)), long)
    digest_like = key(changed(BODY, body=long))[3]
    asked = [
        changed(BODY, body=long),
        changed(BODY, body=long[:-1] + b"x"),
        changed(BODY, body=digest_like),
        changed(INPUTS, inputs=(tensor,)),
        changed(INPUTS, inputs=(Tensor("input", "UINT8", (2, len(long) // 2), long),)),
        changed(INPUTS, inputs=(Tensor("input", "UINT8", (1, len(long)), long[:-1] + b"x"),)),
    ]
    assert len(keys(*asked)) == len(asked)
    assert keys(asked[0], changed(asked[0], id="other")) == {key(asked[0])}
    assert bytes_of(key(changed(BODY, body=bytes(SHORT_BYTES)))) >= SHORT_BYTES > 2 * bytes_of(key(asked[0]))


@given(st.data())
def test_what_is_known_of_an_input_is_what_it_is(data: st.DataObject) -> None:
    """Inputs that look alike where they are sampled, of several tenants, are never taken for one another."""
    known, plain = KnownBodies(), bytes(50_000)
    for _ in range(data.draw(st.integers(1, 12))):
        body = bytearray(plain)
        body[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 2))
        tenant = data.draw(st.sampled_from([b"", b"a"]))
        assert known.digest(bytes(body), tenant) == blake3(bytes(body)).digest()


def test_known_inputs_stay_within_their_bytes() -> None:
    known = KnownBodies()
    for number in range(40):
        known.digest(number.to_bytes(4, "big") * 100_000, b"")
        assert known.used_bytes <= KNOWN_BYTES
    assert known.used_bytes > KNOWN_BYTES // 2
    known.digest(bytes(KNOWN_BYTES), b"")  # too large to be kept
    assert known.used_bytes <= KNOWN_BYTES


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

    assert (key(one) == key(other)) == (seen(one) == seen(other))

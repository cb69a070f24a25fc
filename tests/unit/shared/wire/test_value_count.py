"""Messages are weighed before anything in them is made."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.limits import MAX_VALUES
from shared.wire import fast, messages
from shared.wire.messages import WireError
from shared.wire.value_count import holds_more_values
from tests.memory import peak_bytes

SIZE = 2 << 20


def values_in(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(values_in(key) + values_in(one) for key, one in value.items())
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=40)
    | st.binary(max_size=300) | st.builds(msgpack.ExtType, st.integers(0, 9), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
)  # fmt: skip


@given(anything)
def test_values_are_counted_as_a_decoder_makes_them(value: Any) -> None:
    message = msgpack.packb(value)
    count = values_in(value)
    assert not holds_more_values(message, count)
    assert holds_more_values(message, count - 1)


@given(st.binary(max_size=99), st.integers(0, 9))
def test_any_bytes_can_be_counted(message: bytes, most: int) -> None:
    # No byte makes more than one value, and what is no message at all has none.
    assert not holds_more_values(message[:most], most)
    assert holds_more_values(message, most) or not holds_more_values(message, most + 1)


def array_of(count: int, code: bytes = b"\xdd") -> bytes:
    return code + struct.pack(">I", count)


SOUND = b"\xa1v\x01\xa2id\xa1a\xa2rt\xa2me\xa6ttl_ms\x01"
HOSTILE = {
    "maps": array_of(SIZE) + b"\x80" * SIZE,
    "maps as inputs": b"\x85" + SOUND + b"\xa6inputs" + array_of(SIZE) + b"\x80" * SIZE,
    "maps as params": b"\x85" + SOUND + b"\xa6params\x81\xa1a" + array_of(SIZE) + b"\x80" * SIZE,
    "many params": b"\x85" + SOUND + b"\xa6params" + array_of(SIZE // 4, b"\xdf") + b"\xa2ab\x01" * (SIZE // 4),
    "lists of lists": b"\x85" + SOUND + b"\xa6inputs" + array_of(SIZE // 3) + b"\x92\xc0\xc0" * (SIZE // 3),
    "a shape": b"\x85" + SOUND + b"\xa6inputs\x91\x81\xa5shape" + array_of(SIZE) + b"\x01" * SIZE,
    "members that nobody knows": b"\xdf" + struct.pack(">I", 4 + SIZE // 4) + SOUND + b"\xa2ab\x80" * (SIZE // 4),
    "a member again and again": b"\xdf" + struct.pack(">I", 4 + SIZE // 4) + SOUND + b"\xa2ct\x80" * (SIZE // 4),
    "extensions": b"\x85" + SOUND + b"\xa6inputs" + array_of(SIZE // 3) + b"\xd4\x05x" * (SIZE // 3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_costs_nothing_and_its_sender_is_told(name: str) -> None:
    message, errors = HOSTILE[name], []

    def decode() -> None:
        with pytest.raises(WireError) as caught:
            fast.decode_request(message)
        errors.append(caught.value)

    assert peak_bytes(decode) < SIZE
    assert (errors[0].request_id, errors[0].reply_to) == ((None, None) if name == "maps" else ("a", "me"))


def test_a_hostile_reply_costs_nothing() -> None:
    def decode() -> None:
        for message in HOSTILE.values():
            with pytest.raises(WireError):
                fast.decode_reply(message)

    assert peak_bytes(decode) < SIZE


def test_a_request_with_all_it_may_have_is_within_the_bound() -> None:
    tensor = messages.Tensor("x", "UINT8", (1,) * messages.MAX_DIMENSIONS, b"1")
    params = {str(number): number for number in range(messages.MAX_PARAMS)}
    request = messages.Request(
        "a", 1, inputs=(tensor,) * messages.MAX_INPUTS, params=params, reply_to="me", traceparent="t"
    )
    message = messages.encode_request(request)
    assert not holds_more_values(message, MAX_VALUES)
    assert messages.decode_request(message) == fast.decode_request(message) == request


def test_the_elements_of_texts_may_be_checked_later() -> None:
    broken = messages.Request("a", 1, inputs=(messages.Tensor("x", "BYTES", (2,), b"\0\0\0\0"),), reply_to="me")
    message = messages.encode_request(broken)
    with pytest.raises(WireError) as at_once:
        fast.decode_request(message)
    request = fast.decode_request(message, checks_elements=False)
    with pytest.raises(WireError) as later:
        messages.check_elements(request)
    assert str(at_once.value) == str(later.value)
    assert (later.value.field, later.value.request_id, later.value.reply_to) == ("inputs[0].data", "a", "me")

"""The wire format against its golden bytes, and against everything a hostile sender may think of."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.limits import LONGEST_MS
from shared.state.cards import ITEM_BYTES
from shared.wire import messages as wire
from shared.wire.messages import Fault, ModelTag, Prediction, Reply, Request, Tensor, Timing, WireError
from shared.wire.ran import Ran
from tests.memory import peak_bytes

GOLDEN: dict[str, Any] = json.loads(
    Path(__file__).parents[3].joinpath("golden", "messages.json").read_text(encoding="utf-8")
)


def named(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in GOLDEN[kind]])


def plain(value: Any) -> Any:
    """The golden file's way of writing bytes, undone."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if set(value) == {"hex"} else {k: plain(v) for k, v in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def tensors(maps: Any) -> tuple[Tensor, ...] | None:
    if maps is None:
        return None
    return tuple(Tensor(one["name"], one["datatype"], tuple(one["shape"]), one["data"]) for one in maps)


def request_of(message: dict[str, Any]) -> Request:
    return Request(
        id=message["id"],
        ttl_ms=message["ttl_ms"],
        content_type=message.get("ct"),
        body=message.get("body"),
        inputs=tensors(message.get("inputs")),
        reply_to=message.get("rt"),
        params=message.get("params", {}),
        traceparent=message.get("tp"),
        at=message.get("at"),
        keep_ms=message.get("keep_ms"),
        at_store=message.get("at_store"),
        urgent=message.get("urgent", False),
        explain=message.get("explain", False),
    )


def reply_of(message: dict[str, Any]) -> Reply:
    error, predictions = message.get("error"), message.get("predictions")
    outputs = tensors(message.get("outputs"))
    return Reply(
        id=message["id"],
        model=ModelTag(**message["model"]),
        timing=Timing(**message["t"]),
        attempt=message["attempt"],
        predictions=None if predictions is None else [Prediction(**one) for one in predictions],
        outputs=None if outputs is None else list(outputs),
        fault=None if error is None else Fault(**error),
        warnings=message.get("warnings", ()),
        at_store=message.get("at_store"),
        ran=None if "ran" not in message else Ran(**message["ran"]),
    )


# --- golden bytes --------------------------------------------------------------------------------------------------


@named("requests")
def test_a_request_encodes_to_its_golden_bytes(case: dict[str, Any]) -> None:
    assert wire.encode_request(request_of(plain(case["message"]))).hex() == case["hex"]


@named("requests")
def test_golden_bytes_decode_to_their_request(case: dict[str, Any]) -> None:
    assert wire.decode_request(bytes.fromhex(case["hex"])) == request_of(plain(case["message"]))


@named("replies")
def test_a_reply_encodes_to_its_golden_bytes(case: dict[str, Any]) -> None:
    assert wire.encode_reply(reply_of(plain(case["message"]))).hex() == case["hex"]


@named("replies")
def test_golden_bytes_decode_to_their_reply(case: dict[str, Any]) -> None:
    assert wire.decode_reply(bytes.fromhex(case["hex"])) == reply_of(plain(case["message"]))


@pytest.mark.parametrize("kind", ["requests", "replies"])
def test_the_golden_maps_are_what_any_msgpack_reads(kind: str) -> None:
    for case in GOLDEN[kind]:
        assert msgpack.unpackb(bytes.fromhex(case["hex"])) == plain(case["message"])


@named("bad_requests")
def test_a_bad_request_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_request(bytes.fromhex(case["hex"]))
    assert str(caught.value).startswith(case["sentence"])
    assert caught.value.field == case["field"]
    assert (caught.value.request_id, caught.value.reply_to) == (case["id"], case["rt"])


@named("bad_replies")
def test_a_bad_reply_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode_reply(bytes.fromhex(case["hex"]))
    assert caught.value.field == case["field"]


def test_a_reply_may_have_members_of_a_newer_version() -> None:
    message = plain(GOLDEN["replies"][0]["message"])
    expected = reply_of(message)
    assert wire.decode_reply(msgpack.packb({**message, "energy_joules": 3})) == expected


def test_the_waiting_instance_can_be_named_while_encoding() -> None:
    request = Request("a", 1, "text/plain", b"", reply_to="old")
    assert wire.decode_request(wire.encode_request(request, "new")).reply_to == "new"


# --- round trips ---------------------------------------------------------------------------------------------------

names = st.text("azAZ09_-", min_size=1, max_size=64)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
shapes = st.lists(st.integers(0, 3), max_size=4)


@st.composite
def a_tensor(draw: st.DrawFn) -> Tensor:
    shape = draw(shapes)
    count = 1
    for size in shape:
        count *= size
    name = draw(st.text(max_size=9))
    if draw(st.booleans()):
        elements = [draw(st.binary(max_size=5)) for _ in range(count)]
        data = b"".join(len(one).to_bytes(4, "little") + one for one in elements)
        return Tensor(name, "BYTES", tuple(shape), data)
    datatype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    size = count * ITEM_BYTES[datatype]
    return Tensor(name, datatype, tuple(shape), draw(st.binary(min_size=size, max_size=size)))


inputs = st.lists(a_tensor(), min_size=1, max_size=3).map(tuple)
common: dict[str, Any] = {
    "id": names,
    "ttl_ms": st.integers(1, LONGEST_MS),
    "reply_to": st.none() | names,
    "params": st.dictionaries(st.text(max_size=9), scalars, max_size=4),
    "traceparent": st.none() | st.text(max_size=60),
    "keep_ms": st.none() | st.integers(1, LONGEST_MS),
    "urgent": st.booleans(),
    "explain": st.booleans(),
}
requests = st.builds(Request, content_type=st.text(max_size=60), body=st.binary(max_size=99), **common) | st.builds(
    Request, inputs=inputs, **common
)
natural = st.integers(0, 2**40)
replies = st.builds(
    Reply,
    id=names,
    model=st.builds(ModelTag, names, names, names),
    timing=st.builds(Timing, natural, natural, natural, natural, natural),
    attempt=st.integers(1, 9),
    outputs=st.lists(a_tensor(), max_size=2),
    warnings=st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=2),
)


@given(requests)
def test_every_request_survives_the_way_there(request: Request) -> None:
    assert wire.decode_request(wire.encode_request(request)) == request


@given(replies)
def test_every_reply_survives_the_way_back(reply: Reply) -> None:
    assert wire.decode_reply(wire.encode_reply(reply)) == reply


# --- hostile bytes -------------------------------------------------------------------------------------------------

atoms = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=9)
map_keys = st.text(max_size=9) | st.binary(max_size=9) | st.integers(0, 9)
anything = st.recursive(
    atoms | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(map_keys, inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ("v", "id", "ttl_ms", "keep_ms", "ct", "body", "inputs", "rt", "params", "tp", "urgent", "explain", "ok",
           "seq", "attempt", "final", "model", "t", "predictions", "outputs", "error", "warnings", "ran")  # fmt: skip
half_right = st.fixed_dictionaries({"v": st.just(1), "id": names}, optional=dict.fromkeys(MEMBERS[2:], anything))


def only_wire_errors(decode: Callable[[bytes], Any], message: bytes) -> None:
    refusal = WireError("")
    try:
        decode(message)
    except WireError as error:
        refusal = error
    assert isinstance(refusal.field, str)
    assert len(str(refusal)) < 1000


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_wire_errors(message: bytes) -> None:
    for decode in (wire.unpack, wire.decode_request, wire.decode_reply):
        only_wire_errors(decode, message)


@given(anything | half_right)
def test_random_values_raise_nothing_but_wire_errors(value: Any) -> None:
    message = msgpack.packb(value)
    for decode in (wire.unpack, wire.decode_request, wire.decode_reply):
        only_wire_errors(decode, message)


@given(st.sampled_from([case["hex"] for case in (*GOLDEN["requests"], *GOLDEN["replies"])]), st.data())
def test_damaged_messages_raise_nothing_but_wire_errors(text: str, data: st.DataObject) -> None:
    message = bytearray.fromhex(text)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    for decode in (wire.decode_request, wire.decode_reply):
        only_wire_errors(decode, bytes(message))
        only_wire_errors(decode, bytes(message[:cut]))


NESTED = {
    "lists": b"\x91" * 1_000_000,
    "maps": b"\x81\xa1a" * 330_000,
    "lists, complete": b"\x91" * 1_000_000 + b"\xc0",
    "lists at the limit": b"\x91" * 1023 + b"\xc0",
}


@pytest.mark.parametrize("message", NESTED.values(), ids=NESTED.keys())
@pytest.mark.parametrize("decode", [wire.decode_request, wire.decode_reply])
def test_deep_nesting_is_refused(decode: Callable[[bytes], Any], message: bytes) -> None:
    with pytest.raises(WireError):
        decode(message)


@pytest.mark.parametrize("depth", [100, 500, 900, 1000])
@pytest.mark.parametrize("member", ["v", "ttl_ms", "rt", "ct", "body", "inputs", "params", "tp", "surprise"])
def test_deep_nesting_inside_a_member_is_refused(member: str, depth: int) -> None:
    sound = {"v": 1, "id": "a", "ttl_ms": 1, "ct": "x", "body": b""}
    nested = b"\x91" * depth + b"\xc0"
    members = {key: msgpack.packb(value) for key, value in sound.items()} | {member: nested}
    message = bytes([0x80 + len(members)]) + b"".join(msgpack.packb(key) + value for key, value in members.items())
    with pytest.raises(WireError) as caught:
        wire.decode_request(message)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("member", ["v", "id", "ttl_ms", "rt", "ct", "tp", "x" * 1_000_000])
def test_a_huge_member_does_not_come_back_in_the_message(member: str) -> None:
    sound = {"v": 1, "id": "a", "ttl_ms": 1, "ct": "x", "body": b""}
    with pytest.raises(WireError) as caught:
        wire.decode_request(msgpack.packb({**sound, member: "y" * 1_000_000}))
    assert len(str(caught.value)) < 1000
    assert len(caught.value.field) < 200


def test_a_promised_length_allocates_nothing() -> None:
    """Ten bytes that promise 4 GiB, as bytes, as a string, as a list, as a map, as an extension."""

    def decode_all() -> None:
        for head in (b"\xc6", b"\xdb", b"\xdd", b"\xdf", b"\xc9"):
            for start in (b"", b"\x81\xa2id", b"\x82\xa2id\xa1a\xa4body"):
                only_wire_errors(wire.decode_request, start + head + b"\xff\xff\xff\xff\x01")

    assert peak_bytes(decode_all) < 100_000


def test_a_million_integer_keys_are_refused_at_the_first() -> None:
    message = b"\xdf" + (1_000_000).to_bytes(4, "big") + b"\x01\x02" * 1_000_000

    def decode() -> None:
        with pytest.raises(WireError):
            wire.decode_request(message)

    assert peak_bytes(decode) < 1_000_000


def test_a_body_of_empty_strings_is_counted_no_further_than_needed() -> None:
    with pytest.raises(WireError, match="does not hold 1 BYTES elements"):
        wire.decode_tensor({"name": "x", "datatype": "BYTES", "shape": [1], "data": bytes(400_000)}, "inputs[0]")


def test_memory_stays_flat_over_a_hundred_thousand_bad_messages() -> None:
    """The first thousand may fill caches; the other 99,000 must leave nothing behind."""
    timestamp = msgpack.packb({"id": "a", "v": 1, "params": {"t": msgpack.Timestamp(1, 2)}})
    messages = [bytes.fromhex(case["hex"]) for case in GOLDEN["bad_requests"]]
    messages += [b"\x83\x01\x02\x03\x04\x05\x06", timestamp, b"\xd6\x05abcd", b"\x91" * 2000]

    def decode(count: int) -> None:
        for number in range(count):
            try:
                wire.decode_request(messages[number % len(messages)])
            except WireError:
                continue
            raise AssertionError(f"accepted: {messages[number % len(messages)].hex()}")

    decode(1000)
    tracemalloc.start()
    try:
        before_bytes = tracemalloc.get_traced_memory()[0]
        decode(1000)
        settled_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    finally:
        tracemalloc.stop()
    assert settled_bytes < 20_000
    before_kib = resident_kib()
    decode(98_000)
    assert resident_kib() - before_kib < 4096


def resident_kib() -> int:
    """Resident memory of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("VmRSS is missing from /proc/self/status")

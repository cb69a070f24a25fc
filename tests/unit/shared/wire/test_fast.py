"""Both readers and both writers of the wire format agree, on what is right and on what is wrong."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import example, given
from hypothesis import strategies as some

from shared.wire import fast, messages
from shared.wire.messages import Fault, ModelTag, Prediction, Reply, Tensor, Timing, WireError

names = some.text("abcXYZ019_-", min_size=1, max_size=66)
numbers = some.integers(-(2**40), 2**40)
scalars = some.none() | some.booleans() | numbers | some.floats() | some.text(max_size=6) | some.binary(max_size=6)
anything = some.recursive(
    scalars,
    lambda deeper: some.lists(deeper, max_size=3) | some.dictionaries(some.text(max_size=4), deeper, max_size=3),
    max_leaves=6,
)
tensors = some.integers(0, 5).map(lambda n: {"name": "x", "datatype": "UINT8", "shape": [n], "data": bytes(n)})
requests = some.fixed_dictionaries(
    {"v": some.just(1), "id": names, "ttl_ms": some.integers(1, 3_600_000)},
    optional={
        "ct": some.text(max_size=20),
        "body": some.binary(max_size=20),
        "inputs": some.lists(tensors, max_size=2),
        "rt": names,
        "tp": some.text(max_size=20),
        "at": some.text(max_size=20),
        "at_store": some.text(max_size=20),
        "urgent": some.booleans(),
        "explain": some.booleans(),
        "params": some.dictionaries(some.text(max_size=4), scalars, max_size=2),
    },
)
members = some.sampled_from(
    ["v", "id", "ttl_ms", "ct", "body", "inputs", "rt", "tp", "params", "at", "at_store", "urgent", "explain", "what"]
)
PLAIN: dict[str, Any] = {"v": 1, "id": "a", "ttl_ms": 1, "ct": "x", "body": b"y"}


def outcome(decode: Any, message: bytes) -> Any:
    try:
        return decode(message)
    except WireError as error:
        return str(error), error.field, error.request_id, error.reply_to


def agree(message: bytes) -> None:
    # By their text: a NaN among the parameters is not equal to itself.
    assert repr(outcome(fast.decode_request, message)) == repr(outcome(messages.decode_request, message))


@given(requests)
def test_requests_are_read_alike(request: dict[str, Any]) -> None:
    agree(msgpack.packb(request))


@given(requests, members, anything)
@example(PLAIN, "v", True)
@example(PLAIN, "ttl_ms", 1.0)
@example(PLAIN, "id", "a\n")
@example(PLAIN, "body", None)
@example(PLAIN, "ct", None)
@example(PLAIN, "ct", "x" * 2000)
@example(PLAIN, "rt", "a b")
@example(PLAIN, "inputs", None)
@example({**PLAIN, "body": None}, "at", "x" * 2000)
@example({"v": 1, "id": "a", "ttl_ms": 1, "at": "f:0:1:1"}, "ct", None)
@example(PLAIN, "at", "f:0:1:1")
@example(PLAIN, "at_store", "o/i:1:1:0")
@example(PLAIN, "urgent", True)
@example(PLAIN, "urgent", None)
@example(PLAIN, "explain", True)
@example(PLAIN, "explain", None)
@example({"v": 1, "id": "a", "ttl_ms": 1, "ct": "x", "at": "f:0:1:1"}, "urgent", True)
@example({"v": 1, "id": "a", "ttl_ms": 1, "inputs": [{"name": "x", "datatype": "UINT8", "shape": [0], "data": b""}]},
         "urgent", True)  # fmt: skip
@example({**PLAIN, "body": None}, "at_store", "x" * 2000)
@example({"v": 1, "id": "a", "ttl_ms": 1, "at_store": "o/i:1:1:0"}, "ct", None)
def test_wrong_members_are_refused_alike(request: dict[str, Any], member: str, value: Any) -> None:
    agree(msgpack.packb({**request, member: value}))


@given(requests, some.integers(0, 80), some.integers(0, 255))
def test_damaged_messages_are_refused_alike(request: dict[str, Any], place: int, byte: int) -> None:
    message = bytearray(msgpack.packb(request))
    message[place % len(message)] = byte
    agree(bytes(message))


@given(requests, some.integers(0, 80))
def test_cut_messages_are_refused_alike(request: dict[str, Any], length: int) -> None:
    agree(msgpack.packb(request)[:length])


def test_a_member_that_is_there_twice_is_read_alike() -> None:
    one = msgpack.packb(PLAIN)
    agree(bytes([one[0] + 1]) + one[1:] + msgpack.packb("id") + msgpack.packb("b"))


replies = some.builds(
    Reply,
    id=names,
    model=some.builds(ModelTag, name=names, version=some.text(max_size=4), precision=some.just("fp32")),
    timing=some.builds(Timing, queue=some.integers(0, 2**40), run=some.integers(0, 9), batch=some.integers(0, 64)),
    attempt=some.integers(1, 9),
    predictions=some.lists(
        some.builds(Prediction, some.text(max_size=4), some.integers(0, 9), some.floats(0, 1)), max_size=3
    ),
    outputs=some.just(None),
    warnings=some.lists(some.text(max_size=5), max_size=2).map(tuple),
) | some.builds(
    Reply,
    id=names,
    model=some.just(ModelTag("m", "1", "bf16")),
    timing=some.just(Timing()),
    outputs=some.lists(some.integers(0, 5).map(lambda n: Tensor("y", "UINT8", (n,), bytes(n))), max_size=2),
)


@given(replies)
def test_replies_are_written_alike(reply: Reply) -> None:
    assert fast.encode_reply(reply) == messages.encode_reply(reply)


def told(reply: Reply) -> Any:
    return (
        *(reply.id, reply.model, reply.timing, reply.attempt),
        *(reply.predictions, reply.outputs, reply.fault, list(reply.warnings)),
    )


@given(replies)
def test_replies_are_read_alike(reply: Reply) -> None:
    message = messages.encode_reply(reply)
    assert told(fast.decode_reply(message)) == told(messages.decode_reply(message))


@given(replies, some.builds(Fault, names, some.text(max_size=5), some.none() | names))
def test_faults_are_written_and_read_alike(reply: Reply, fault: Fault) -> None:
    refused = Reply(reply.id, reply.model, reply.timing, reply.attempt, fault=fault)
    message = fast.encode_reply(refused)
    assert message == messages.encode_reply(refused)
    assert told(fast.decode_reply(message)) == told(messages.decode_reply(message))


@given(some.binary(max_size=60) | anything.map(msgpack.packb))
def test_what_is_no_reply_is_refused_alike(message: bytes) -> None:
    assert repr(outcome(fast.decode_reply, message)) == repr(outcome(messages.decode_reply, message))

"""Messages made to harm, from a seed: what rows 27 and 31 to 33 send through REST and straight onto the stream."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from enum import StrEnum

import msgpack

RAW = "application/octet-stream"
MEGABYTE = 1 << 20


def int_keys(count: int) -> bytes:
    """A map with so many whole numbers as keys."""
    return b"\xdf" + struct.pack(">I", count) + b"".join(b"\xce" + struct.pack(">I", n) + b"\0" for n in range(count))


PROMISES = [
    start + code + b"\xff\xff\xff\xff\x01"
    for code in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")
    for start in (b"", b"\x81\xa6inputs", b"\x82\xa1v\x01\xa4body")
]
"""A few bytes that declare a length of 2^32 - 1: a list, a map, a string, bytes, an extension."""

NESTED = [b"\x91" * MEGABYTE, b"\x81\xa1a" * (MEGABYTE // 3), b"\x81\xa6inputs" + b"\x91" * MEGABYTE]

INT_KEYS = [int_keys(10), msgpack.packb({1: 2})]

EXTENSIONS = [
    msgpack.packb(msgpack.ExtType(1, bytes(1000))),
    msgpack.packb({"inputs": msgpack.ExtType(5, b"x"), "v": 1}),
]

TIMESTAMPS = [
    msgpack.packb(msgpack.Timestamp(1, 2)),
    msgpack.packb({"inputs": msgpack.Timestamp(1)}),
    msgpack.packb({"parameters": {"top_k": msgpack.Timestamp(1)}}),
]
"""An extension that can be read, and is nothing that a message may hold."""


class Kind(StrEnum):
    """What is wrong with a message."""

    CUT = "cut off"
    RANDOM = "random"
    PROMISE = "promises too much"
    NESTED = "nested"
    INT_KEYS = "numbers as keys"
    EXTENSION = "an extension"
    TIMESTAMP = "a timestamp"


SAID = {
    Kind.CUT: "not valid msgpack",
    Kind.RANDOM: "not valid msgpack|Extension types",
    Kind.PROMISE: "not valid msgpack",
    Kind.NESTED: "nested too deeply",
    Kind.INT_KEYS: "not valid msgpack: .* map key",
    Kind.EXTENSION: "Extension types",
    Kind.TIMESTAMP: "must be a map|needs an id",
}
"""What a consumer says of it, as a pattern."""

TENSOR = {"name": "input", "shape": [4], "datatype": "UINT8", "data": b"\1\2\3\4"}
DOCUMENT = msgpack.packb({"inputs": [TENSOR], "parameters": {"timeout_ms": 5000}})
"""A good body of a REST request."""


def broken(whole: bytes, count: int, seed: int) -> Iterator[tuple[Kind, bytes]]:
    """Give ``count`` messages that cannot be read: parts of ``whole``, and others.

    Every thousandth is a megabyte of nesting.
    """
    generator = random.Random(seed)
    odd = [
        *((Kind.INT_KEYS, message) for message in INT_KEYS),
        *((Kind.EXTENSION, message) for message in EXTENSIONS),
        *((Kind.TIMESTAMP, message) for message in TIMESTAMPS),
    ]
    for number in range(count):
        kind = generator.randrange(4)
        if number % 1000 == 999:
            yield Kind.NESTED, generator.choice(NESTED)
        elif kind == 0:
            yield Kind.CUT, whole[: generator.randrange(1, len(whole))]
        elif kind == 1:
            yield Kind.RANDOM, _noise(generator)
        elif kind == 2:
            yield Kind.PROMISE, generator.choice(PROMISES)
        else:
            yield generator.choice(odd)


def _noise(generator: random.Random) -> bytes:
    """Random bytes that are nothing in msgpack, not even a number by accident."""
    while True:
        noise = generator.randbytes(generator.randrange(1, 200))
        try:
            msgpack.unpackb(noise, strict_map_key=False)
        except (ValueError, TypeError):
            return noise

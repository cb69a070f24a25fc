"""Frames: the parts of an answer that is still being made, as records and reply streams hold them. Pure.

``docs/protocol.md`` is the contract. A frame is a msgpack array, so that frames one behind the other need nothing
between them; a reader takes the members that it knows, from the front.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Final

import msgpack
import msgspec

from .tensors import WireError

FIRST: Final = 1
"""Flag of a frame with which an attempt begins: the first one, and each that goes on after another consumer."""

ALONE: Final = 2
"""Flag beside ``FIRST``: this attempt begins alone, since what it runs may have ended the consumer before."""

DEADLINE: Final = 4
"""Flag of a last frame: the time for the whole answer was over."""

HANDED_OVER: Final = 8
"""Flag of a frame with which an attempt ends because its consumer stops; another one goes on."""

Logprob = tuple[int, str, float]
"""A token, what it says alone, and the logarithm of its probability."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """How likely a token was, and the likeliest ones in its place, best first."""

    token: int
    text: str
    logprob: float
    top: tuple[Logprob, ...] = ()


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """A part of an answer.

    Attributes:
        id: the request's.
        seq: number of the frame, from 0 and without gaps; a record never holds one twice.
        attempt: which attempt wrote it, from 1.
        tokens: new ones, 32-bit little-endian unsigned integers; see :func:`tokens_of`.
        text: new text: whole characters, and nothing that may be taken back. Often behind the tokens, never ahead.
        flags: ``FIRST``, ``ALONE``, ``DEADLINE``, ``HANDED_OVER``.
        finish: why it is the last one: ``stop``, ``length`` or ``error``; empty otherwise.
        logprobs: one for each token, if they were asked for.
    """

    id: str
    seq: int
    attempt: int
    tokens: bytes
    text: str
    flags: int = 0
    finish: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


_encoder = msgspec.msgpack.Encoder()


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame."""
    return _encoder.encode(frame)


def decode_frames(data: bytes) -> list[Frame]:
    """Decode frames that stand one behind the other.

    Raises:
        WireError: one of them is none, or is cut off.
    """
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=len(data) or 1)
    unpacker.feed(data)
    try:
        frames = []
        while unpacker.tell() < len(data):
            frames.append(msgspec.convert(unpacker.unpack(), Frame, builtin_types=(bytes,)))
    except msgpack.OutOfData:
        raise WireError("The last frame is cut off.") from None
    except (msgpack.UnpackException, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise WireError(f"This is no frame: {str(error)[:120]}.") from None
    return frames


def pack_tokens(tokens: Iterable[int]) -> bytes:
    """Return tokens as a frame has them."""
    packed = array("I", [*tokens])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def tokens_of(packed: bytes) -> tuple[int, ...]:
    """Return the tokens of a frame or a prompt.

    Raises:
        WireError: these are no 32-bit integers.
    """
    if len(packed) % 4:
        raise WireError(f"Tokens have 4 bytes each, and {len(packed)} are not a multiple of that.", "tokens")
    tokens = array("I", packed)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tuple(tokens)

"""What is to be generated: the body of a request of the type ``application/vnd.headrace.generate``. Pure.

A msgpack map; ``docs/protocol.md`` is the contract. It is in the body because ``params`` take no lists. Every attempt
reads the same body, so whatever decides the text is in it: the seed, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from shared.limits import LONGEST_MS

from .frames import pack_tokens
from .messages import WireError, pack, unpack
from .outcomes import invalid

CONTENT_TYPE: Final = "application/vnd.headrace.generate"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What to generate. Exactly one of ``prompt``, ``tokens`` and ``messages`` is set.

    Attributes:
        prompt: a text that goes on.
        tokens: the same as token ids.
        messages: a conversation, for the model's chat template: maps with ``role`` and ``content``.
        max_tokens: most tokens to generate; None is as many as the model's context has room for.
        temperature: 0 takes the likeliest token.
        top_p, top_k: what may be drawn; 1 and 0 are everything.
        stop: texts that end it, which are not part of it.
        seed: decides the draw.
        stream: parts are wanted as they come; without, whoever waits gets the whole answer alone.
        run_ms: how long it may take from its start on, over all attempts; what is there then is the answer.
        logprobs: how many of the likeliest tokens are reported beside each one; None reports nothing.
        schema: JSON Schema, as a map, that the text is to fulfil; true for any JSON.
        ignore_end: goes on where the model would end it; for measuring.
    """

    prompt: str | None = None
    tokens: tuple[int, ...] | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    stream: bool = False
    run_ms: int | None = None
    logprobs: int | None = None
    schema: Mapping[str, Any] | bool | None = None
    ignore_end: bool = False


class Asked(NamedTuple):
    """What a body says: the parameters of the model, and what concerns its delivery.

    Attributes:
        parameters: all other members, which the model's reader checks.
    """

    parameters: Mapping[str, Any]
    stream: bool
    run_ms: int | None


_USUAL = {name: getattr(Generation(), name) for name in Generation.__struct_fields__}


def encode_generation(wanted: Generation) -> bytes:
    """Encode what is to be generated; members with their usual value are left out, but for the seed."""
    found = {name: getattr(wanted, name) for name in Generation.__struct_fields__}
    members = {name: value for name, value in found.items() if name == "seed" or value != _USUAL[name]}
    if wanted.tokens is not None:
        members["tokens"] = pack_tokens(wanted.tokens)
    return pack(members)


def decode_generation(body: bytes) -> Asked:
    """Decode what is to be generated, and check what concerns its delivery.

    Raises:
        RequestError: ``invalid_input``; one sentence that names the member.
    """
    try:
        value = unpack(body)
    except WireError as error:
        raise invalid(str(error), "body") from None
    if type(value) is not dict or not all(type(name) is str for name in value):
        raise invalid("The body must be a map whose keys are strings.", "body")
    stream, run_ms = value.pop("stream", False), value.pop("run_ms", None)
    if type(stream) is not bool:
        raise invalid("stream must be true or false.", "stream")
    if run_ms is not None and (type(run_ms) is not int or not 1 <= run_ms <= LONGEST_MS):
        raise invalid(f"run_ms must be a whole number from 1 to {LONGEST_MS}.", "run_ms")
    return Asked(value, stream, run_ms)

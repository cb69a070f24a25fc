"""What is to be generated: the body of a request of the type ``application/vnd.headrace.generate``. Pure.

A msgpack map; ``docs/protocol.md`` is the contract. It is in the body because ``params`` take no lists. Every attempt
reads the same body, so whatever decides the text is in it: the seed, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.limits import LONGEST_MS

from .frames import pack_tokens, tokens_of
from .messages import WireError, pack, unpack
from .outcomes import invalid

CONTENT_TYPE: Final = "application/vnd.headrace.generate"
MOST_TOKENS: Final = 1 << 31
MOST_SEED: Final = (1 << 64) - 1
MOST_STOPS: Final = 4
MOST_STOP_CHARACTERS: Final = 256
MOST_LOGPROBS: Final = 20
MOST_TEMPERATURE: Final = 2.0

_SOURCES = ("prompt", "tokens", "messages")


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
        schema: JSON Schema, as JSON, that the text is to fulfil.
        ignores_end: goes on where the model would end it; for measuring.
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
    schema: str | None = None
    ignores_end: bool = False


_MEMBERS = frozenset(Generation.__struct_fields__)
_DEFAULTS = {name: getattr(Generation(), name) for name in Generation.__struct_fields__}


def encode_generation(wanted: Generation) -> bytes:
    """Encode what is to be generated; members with their usual value are left out, but for the seed."""
    found = {name: getattr(wanted, name) for name in Generation.__struct_fields__}
    members = {name: value for name, value in found.items() if name == "seed" or value != _DEFAULTS[name]}
    if wanted.tokens is not None:
        members["tokens"] = pack_tokens(wanted.tokens)
    return pack(members)


def decode_generation(body: bytes) -> Generation:
    """Decode and check what is to be generated.

    Raises:
        RequestError: ``invalid_input``; one sentence that names the member.
    """
    try:
        value = unpack(body)
    except WireError as error:
        raise invalid(str(error), "body") from None
    if type(value) is not dict:
        raise invalid("The body must be a map.", "body")
    unknown = next((name for name in value if name not in _MEMBERS), None)
    if unknown is not None:
        raise invalid(f"There is no parameter {str(unknown)[:80]!r}.", str(unknown)[:80])
    present = [name for name in _SOURCES if value.get(name) is not None]
    if len(present) != 1:
        raise invalid("There must be one of prompt, tokens and messages.", present[1] if present else "prompt")
    known = {name: member for name, member in value.items() if member is not None}
    return Generation(**{name: _CHECKS[name](name, member) for name, member in known.items()})


def _whole(least: int, most: int) -> Any:
    def check(name: str, value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise invalid(f"{name} must be a whole number from {least} to {most}.", name)
        return value

    return check


def _number(above: float, least: float, most: float, told: str) -> Any:
    def check(name: str, value: Any) -> float:
        is_number = type(value) in (int, float) and math.isfinite(value)
        if not (is_number and least <= value <= most and value > above):
            raise invalid(f"{name} must be {told}.", name)
        return float(value)

    return check


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise invalid(f"{name} must be a text.", name)
    return value


def _switch(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise invalid(f"{name} must be true or false.", name)
    return value


def _tokens(name: str, value: Any) -> tuple[int, ...]:
    if type(value) is not bytes or not value:
        raise invalid(f"{name} must be bytes, four for each token.", name)
    try:
        return tokens_of(value)
    except WireError as error:
        raise invalid(str(error), name) from None


def _messages(name: str, value: Any) -> Sequence[Mapping[str, Any]]:
    if type(value) is not list or not value:
        raise invalid(f"{name} must be a list of at least one message.", name)
    for index, message in enumerate(value):
        if type(message) is not dict or type(message.get("role")) is not str:
            raise invalid("A message must be a map with a role and a content.", f"{name}[{index}]")
    return value


def _stop(name: str, value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > MOST_STOPS:
        raise invalid(f"{name} must be a list of at most {MOST_STOPS} texts.", name)
    for index, text in enumerate(value):
        if type(text) is not str or not 1 <= len(text) <= MOST_STOP_CHARACTERS:
            raise invalid(f"A stop text has 1 to {MOST_STOP_CHARACTERS} characters.", f"{name}[{index}]")
    return tuple(value)


_CHECKS: Mapping[str, Any] = {
    "prompt": _text,
    "tokens": _tokens,
    "messages": _messages,
    "max_tokens": _whole(1, MOST_TOKENS),
    "temperature": _number(-1.0, 0.0, MOST_TEMPERATURE, f"a number from 0 to {MOST_TEMPERATURE:g}"),
    "top_p": _number(0.0, 0.0, 1.0, "a number above 0 and at most 1"),
    "top_k": _whole(0, MOST_TOKENS),
    "stop": _stop,
    "seed": _whole(0, MOST_SEED),
    "stream": _switch,
    "run_ms": _whole(1, LONGEST_MS),
    "logprobs": _whole(0, MOST_LOGPROBS),
    "schema": _text,
    "ignores_end": _switch,
}

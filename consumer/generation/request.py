"""From what a client asks for to a sequence. Pure, but for the tokeniser and the schema's library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from shared.wire.outcomes import RequestError, invalid, malformed

from . import checks
from .chat import read_messages
from .engine import Constraint, Sampling, Sequence

PROMPTS = ("prompt", "tokens", "messages")
PARAMETERS = (
    *PROMPTS,
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "logprobs",
    "schema",
    "ignore_end",
)
MOST_TOP_K = 1 << 31


class Texts(Protocol):
    """Makes tokens; see :class:`consumer.generation.tokeniser.Tokeniser`."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text."""

    def encode_chat(self, messages: Any) -> tuple[int, ...]:
        """Return the tokens of messages."""


class MakesConstraints(Protocol):
    """Makes constraints; see :class:`consumer.generation.schema.Schemas`."""

    def constraint(self, schema: object) -> Constraint:
        """Make the constraint of one sequence."""


class Reader:
    """Reads requests for one model.

    Args:
        context: most tokens of a sequence.
        vocabulary: how many tokens there are.
    """

    def __init__(self, texts: Texts, schemas: MakesConstraints, context: int, vocabulary: int) -> None:
        self._texts, self._schemas = texts, schemas
        self._context, self._vocabulary = context, vocabulary

    def read(self, id: str, asked: Mapping[str, Any], generated: tuple[int, ...] = ()) -> Sequence:
        """Make a sequence of one of ``prompt`` (a text), ``tokens`` (ids) and ``messages``, and of parameters.

        Without ``max_tokens`` the model may use what is left of its context.

        Args:
            generated: what earlier attempts generated.

        Raises:
            RequestError: one sentence that names the field.
        """
        unknown = next((name for name in asked if name not in PARAMETERS), None)
        if unknown is not None:
            raise invalid(
                f"There is no parameter {str(unknown)[:80]!r}; there are {', '.join(PARAMETERS)}.", str(unknown)[:80]
            )
        prompt = self._prompt(asked)
        left = self._context - len(prompt)
        if left < 1:
            checks.check_length(len(prompt), 1, self._context)
        sampling = Sampling(
            temperature=_number(asked, "temperature", 1.0),
            top_p=_number(asked, "top_p", 1.0),
            top_k=_whole(asked, "top_k", 0, MOST_TOP_K),
            seed=_whole(asked, "seed", 0, None),
            logprobs=None if asked.get("logprobs") is None else _whole(asked, "logprobs", 0, None),
        )
        schema = asked.get("schema")
        sequence = Sequence(
            id,
            prompt,
            _whole(asked, "max_tokens", left, None),
            sampling,
            _stops(asked.get("stop")),
            generated,
            None if schema is None else self._schemas.constraint(schema),
            _flag(asked, "ignore_end"),
        )
        checks.check(sequence, self._context, self._vocabulary)
        return sequence

    def _prompt(self, asked: Mapping[str, Any]) -> tuple[int, ...]:
        given = [name for name in PROMPTS if asked.get(name) is not None]
        if len(given) != 1:
            raise invalid(f"Give one of {', '.join(PROMPTS)}, not {' and '.join(given) or 'none'}.", "prompt")
        value = asked[given[0]]
        if given[0] == "messages":
            return self._texts.encode_chat(read_messages(value))
        if given[0] == "prompt":
            if not isinstance(value, str):
                raise invalid("prompt must be a text.", "prompt")
            return self._texts.encode(value)
        return _tokens(value)


def _tokens(value: object) -> tuple[int, ...]:
    """Read token ids: a list of whole numbers, or bytes with four each, the lowest first."""
    if isinstance(value, bytes):
        if len(value) % 4:
            raise malformed(f"tokens must be four bytes each, but there are {len(value)} bytes.", "tokens")
        return tuple(memoryview(value).cast("I")) if _IS_LITTLE else _swapped(value)
    if isinstance(value, list) and all(type(one) is int for one in value):
        return tuple(value)
    raise invalid("tokens must be a list of whole numbers.", "tokens")


_IS_LITTLE = memoryview(b"\1\0\0\0").cast("I")[0] == 1


def _swapped(value: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(value[at : at + 4], "little") for at in range(0, len(value), 4))


def _number(asked: Mapping[str, Any], name: str, default: float) -> float:
    value = asked.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number")
    try:
        return float(value)
    except OverflowError:
        raise _wrong(name, "a number of ordinary size") from None


def _whole(asked: Mapping[str, Any], name: str, default: int, most: int | None) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise _wrong(name, "a whole number")
    return value if most is None else min(value, most)


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return bool(value)


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise _wrong("stop", "a text or a list of texts")


def _wrong(name: str, what: str) -> RequestError:
    return invalid(f"{name} must be {what}.", name)

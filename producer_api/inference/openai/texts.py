"""Texts, or texts as tokens, of a request: from JSON to a message for a model that takes texts. Pure.

A list of texts is the tensor that such a model takes, of datatype BYTES; tokens go as a body of its own type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from producer_api.parsing.elements import pack_elements
from producer_api.parsing.json_lists import packed
from producer_api.parsing.json_texts import end_of_text
from producer_api.parsing.steps import Steps
from shared.state.cards import Card, TensorSpec
from shared.wire.messages import Request, Tensor, pack
from shared.wire.outcomes import RequestError, invalid, malformed

from .documents import decoded

TOKENS_TYPE: Final = "application/vnd.headrace.text"
"""Of a body that holds texts as tokens: in msgpack, a list with the list of tokens of each text."""

TRUNCATE: Final = "truncate"
"""The option that has a model cut texts which are longer than its context."""

MOST_TEXTS: Final = 2048
"""In one request, as OpenAI has it."""

MOST_TOKEN: Final = 2**32 - 1
MOST_TOKENS: Final = 1 << 20
"""Of one text; a model's context is the limit that counts, and its consumer knows it."""

_SHORT_BYTES: Final = 64 * 1024
_BLANK: Final = b" \t\r\n"
_SOME_TEXTS: Final = re.compile(rb'(?:[\s,\[]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"){1,64}+', re.DOTALL)
_ONE_TEXT: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_text: Final = msgspec.json.Decoder(str)
_texts: Final = msgspec.json.Decoder(list[str])
_tokens: Final = msgspec.json.Decoder(list[int])
_MOST_TOKEN_DIGITS: Final = 12


def request_of(raw: bytes, card: Card, field: str) -> Steps[tuple[Request, int]]:
    """Make a message of a text, a list of texts, the tokens of a text, or a list of those.

    Args:
        raw: in JSON.
        field: name of the member, for errors.

    Returns:
        The message, without what is not in ``raw``, and how many texts it has.

    Raises:
        RequestError: ``MALFORMED``, ``INVALID_INPUT``: one sentence about the first that is wrong.
    """
    raw = raw.strip(_BLANK)
    first = raw[1:].lstrip(_BLANK)[:1] if raw[:1] == b"[" else b'"'
    if first in (b'"', b"]") or not (first == b"[" or first.isdigit()):
        spec = input_of(card)
        data, count = yield from _packed_texts(raw, field)
        _check_count(count, field)
        _check_filled(data, field, is_list=raw[:1] == b"[")
        return Request("", 1, inputs=(Tensor(spec.name, "BYTES", (count,), data),)), count
    if TOKENS_TYPE not in card.content_types:
        raise invalid("This model takes texts, not tokens.", field)
    rows = (yield from _token_rows(raw, field)) if first == b"[" else [_tokens_of(raw, field)]
    _check_count(len(rows), field)
    return Request("", 1, TOKENS_TYPE, pack(rows)), len(rows)


def of_texts(texts: Sequence[str], card: Card, field: str) -> Request:
    """Make a message of texts.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    spec = input_of(card)
    _check_count(len(texts), field)
    return Request("", 1, inputs=(Tensor(spec.name, "BYTES", (len(texts),), encoded_texts(texts)),))


def input_of(card: Card) -> TensorSpec:
    """Return the input of a model that takes texts.

    Raises:
        RequestError: ``INVALID_INPUT``: it takes something else.
    """
    if len(card.inputs) == 1 and card.inputs[0].datatype == "BYTES" and not card.inputs[0].shape:
        return card.inputs[0]
    raise invalid(f"The model {card.name} does not take texts.", "model")


def _packed_texts(raw: bytes, field: str) -> Steps[tuple[bytes, int]]:
    if raw[:1] != b"[":
        return encoded_texts([decoded(raw, _text, field)]), 1
    if len(raw) <= _SHORT_BYTES:
        texts = decoded(raw, _texts, field)
        return encoded_texts(texts), len(texts)
    count = yield from _count(raw, field)
    return (yield from packed(raw, "BYTES", [count], 1, count, field)), count


def encoded_texts(texts: Sequence[str]) -> bytes:
    """Return texts as the bytes of a tensor of datatype BYTES.

    Raises:
        RequestError: ``MALFORMED``.
    """
    try:
        return pack_elements("BYTES", texts)
    except UnicodeEncodeError:
        raise malformed("The body is not valid JSON: a text has half of a surrogate pair.", "body") from None


def _count(raw: bytes, field: str) -> Steps[int]:
    """Return how many texts a long list has, or one more than there may be."""
    at = count = 0
    while count <= MOST_TEXTS:
        if found := _SOME_TEXTS.match(raw, at, at + _SHORT_BYTES):
            count += len(_ONE_TEXT.findall(found[0]))
            at = found.end()
        else:
            quote = raw.find(b'"', at)
            if quote < 0:
                break
            at = yield from end_of_text(raw, quote)
            count += 1
        yield
    if count > MOST_TEXTS:
        raise _too_many(field)
    return count


def _token_rows(raw: bytes, field: str) -> Steps[list[list[int]]]:
    """Return the tokens of each text of a nested list."""
    rows: list[list[int]] = []
    at = 1
    while True:
        start = raw.find(b"[", at)
        end = raw.find(b"]", start) + 1
        if start < 0 or end <= 0:
            break
        if len(rows) == MOST_TEXTS:
            raise _too_many(field)
        _check_between(raw[at:start], len(rows), field)
        rows.append(_tokens_of(raw[start:end], f"{field}[{len(rows)}]"))
        at = end
        yield
    if raw[at:].translate(None, _BLANK) != b"]":
        raise invalid("Tokens are a list of whole numbers, or a list of such lists.", field)
    return rows


def _check_between(gap: bytes, before: int, field: str) -> None:
    if gap.translate(None, _BLANK) != (b"," if before else b""):
        raise invalid("Tokens are a list of whole numbers, or a list of such lists.", field)


def _tokens_of(raw: bytes, field: str) -> list[int]:
    if len(raw) > MOST_TOKENS * _MOST_TOKEN_DIGITS or raw.count(b",") >= MOST_TOKENS:
        raise invalid(f"A text has at most {MOST_TOKENS} tokens.", field)
    tokens = decoded(raw, _tokens, field)
    if not tokens:
        raise invalid("A text has at least one token.", field)
    if min(tokens) < 0 or max(tokens) > MOST_TOKEN:
        raise invalid(f"Tokens lie between 0 and {MOST_TOKEN}.", field)
    return tokens


def _check_count(count: int, field: str) -> None:
    if not count:
        raise invalid("There must be at least one text.", field)
    if count > MOST_TEXTS:
        raise _too_many(field)


def _check_filled(data: bytes, field: str, *, is_list: bool) -> None:
    at = index = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if not length:
            raise invalid("A text must not be empty.", f"{field}[{index}]" if is_list else field)
        at, index = at + 4 + length, index + 1


def _too_many(field: str) -> RequestError:
    return invalid(f"A request has at most {MOST_TEXTS} texts.", field)

"""What an answer with vectors says: whether it has one for each text, and how many tokens the texts had. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from loadgen.results.ledger import Told

Reader = Callable[[bytes, int], "Told | None"]
"""From a body of status 200 and the number of texts asked about to what it says; None: it is no such answer."""

MOST_TOKENS: Final = 2**40
Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
"""How many tokens a service may say that one request had; anything else is no count."""

_TOKENS: Final = "tokens"
_WIDTHS: Final = {"INT32": 4, "INT64": 8, "UINT32": 4, "UINT64": 8}


class _Usage(msgspec.Struct):
    prompt_tokens: Tokens | None = None


class _Vectors(msgspec.Struct):
    data: list[msgspec.Raw] = []
    usage: _Usage | None = None


class Output(msgspec.Struct):
    """A tensor of our own answers: `data` are numbers in JSON and little-endian bytes in msgpack."""

    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw


class _Outputs(msgspec.Struct):
    outputs: list[Output] | None = None


_decode_openai: Final = msgspec.json.Decoder(_Vectors).decode
_decode_json: Final = msgspec.json.Decoder(_Outputs).decode
_decode_msgpack: Final = msgspec.msgpack.Decoder(_Outputs).decode


def read_openai(body: bytes, texts: int) -> Told | None:
    """Read an answer of `/v1/embeddings`."""
    try:
        answer = _decode_openai(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if len(answer.data) != texts:
        return None
    return Told(texts=texts, prompt_tokens=None if answer.usage is None else answer.usage.prompt_tokens)


def read_native_json(body: bytes, texts: int) -> Told | None:
    """Read an answer of our own API in JSON."""
    try:
        return told_of(_decode_json(body).outputs, texts, msgspec.json.Decoder(list[int]).decode)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_native_msgpack(body: bytes, texts: int) -> Told | None:
    """Read an answer of our own API in msgpack, or a reply on the stream."""
    try:
        return told_of(_decode_msgpack(body).outputs, texts, None)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def told_of(outputs: list[Output] | None, texts: int, decode: Callable[[msgspec.Raw], list[int]] | None) -> Told | None:
    """Return what the outputs say; None when the first of them has no row for each text."""
    if not outputs or outputs[0].shape[:1] != [texts]:
        return None
    found = next((one for one in outputs if one.name == _TOKENS and one.datatype in _WIDTHS), None)
    if found is None:
        return Told(texts=texts)
    if decode is not None:
        numbers = decode(found.data)
    else:
        data, width = msgspec.msgpack.decode(found.data, type=bytes), _WIDTHS[found.datatype]
        parts = (data[at : at + width] for at in range(0, len(data), width))
        numbers = [int.from_bytes(part, "little", signed=found.datatype.startswith("I")) for part in parts]
    total = sum(numbers)
    return Told(texts, total) if min(numbers, default=0) >= 0 and total <= MOST_TOKENS else None

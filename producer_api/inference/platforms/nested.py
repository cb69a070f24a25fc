"""Elements of tensors as nested JSON lists: in, their shape; out, the text. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from producer_api.parsing.elements import element_parts, unpack_elements

ELEMENTS_AT_ONCE = 8192
TEXTS_AT_ONCE = 1024

_items = msgspec.json.Decoder(list[msgspec.Raw])


def items_of(raw: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a JSON list, undecoded.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _items.decode(raw)


def shape_of(raw: bytes | msgspec.Raw, depth: int) -> list[int]:
    """Return the first ``depth`` sizes of a nested list, as its first items have them."""
    shape: list[int] = []
    for _ in range(depth):
        items = items_of(raw)
        shape.append(len(items))
        if not items:
            break
        raw = items[0]
    return shape


def text_pieces(datatype: str, data: bytes, shape: Sequence[int]) -> Iterator[bytes]:
    """Return a tensor as a JSON list nested like its shape, in pieces of some thousand elements.

    Args:
        shape: of at least one dimension; its sizes are at least 1.
    """
    spans = [math.prod(shape[axis:]) for axis in range(len(shape))]
    index, inner = 0, shape[-1]
    for part in element_parts(datatype, data, ELEMENTS_AT_ONCE, TEXTS_AT_ONCE):
        values, at, texts = unpack_elements(datatype, part), 0, list[bytes]()
        while at < len(values):
            if index:
                texts.append(b",")
            texts.append(b"[" * sum(index % span == 0 for span in spans))
            count = min(inner - index % inner, len(values) - at)
            texts.append(msgspec.json.encode(values[at : at + count])[1:-1])
            at, index = at + count, index + count
            texts.append(b"]" * sum(index % span == 0 for span in spans))
        yield b"".join(texts)

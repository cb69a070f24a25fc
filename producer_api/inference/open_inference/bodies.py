"""The body of a request: uncompressed within bounds, and cut into its JSON and its binary tensors. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from producer_api.parsing.schemas import BinaryTensor, InputTensor
from producer_api.parsing.steps import Steps
from shared.wire.outcomes import BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, RequestError, malformed

from .documents import InferInput

HEADER_LENGTH: Final = b"inference-header-content-length"
_NAME: Final = "Inference-Header-Content-Length"

GZIP, DEFLATE = "gzip", "deflate"
_WINDOW_BITS = {GZIP: 31, DEFLATE: 15}
"""``deflate`` has the envelope of zlib: RFC 9110, section 8.4.1.2."""

PIECE_BYTES: Final = 128 * 1024
LEVEL: Final = 1

_MOST_DIGITS = 18
_QUALITY_OF_NONE = re.compile(r"q\s*=\s*0(?:\.0{0,3})?\s*\Z")


def header_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    """Return how long the JSON is, from the header; None without one.

    Raises:
        RequestError: ``MALFORMED``: it is no length.
    """
    value = headers.get(HEADER_LENGTH)
    if value is None:
        return None
    if len(value) > _MOST_DIGITS or not value.isdigit():
        raise malformed(f"{_NAME} must be the number of bytes of the JSON.", _NAME)
    return int(value)


@lru_cache(maxsize=64)
def coding_of(content_encoding: bytes) -> str | None:
    """Return the coding of a request's body; None for none.

    Raises:
        RequestError: ``UNSUPPORTED_MEDIA_TYPE``.
    """
    name = content_encoding.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return None
    name = GZIP if name == "x-gzip" else name
    if name not in _WINDOW_BITS:
        raise RequestError(
            UNSUPPORTED_MEDIA_TYPE, "A body may be compressed with gzip or deflate.", field="Content-Encoding"
        )
    return name


@lru_cache(maxsize=256)
def coding_for(accept_encoding: bytes) -> str | None:
    """Return how the answer is to be compressed; None for not at all.

    Only ``Accept-Encoding`` that names one coding asks for it: libraries send lists whether or not anybody wants their
    tensors compressed, and that takes longer than sending them.
    """
    offers = [part.strip().lower() for part in accept_encoding.decode("latin-1").split(",")]
    names = [
        name.strip() for name, _, rest in (one.partition(";") for one in offers) if not _QUALITY_OF_NONE.search(rest)
    ]
    found = [name for name in names if name not in ("", "identity")]
    return found[0] if len(found) == 1 and found[0] in _WINDOW_BITS else None


def inflate_in_steps(body: bytes, coding: str, most_bytes: int) -> Steps[bytes]:
    """Return what was compressed; never makes more than ``most_bytes`` and one piece.

    Raises:
        RequestError: ``BODY_TOO_LARGE``, or ``MALFORMED``: it is not so compressed, is cut off, or goes on after its
            end.
    """
    inflater, whole = zlib.decompressobj(_WINDOW_BITS[coding]), memoryview(body)
    parts: list[bytes] = []
    size = start = 0
    while start < len(body):
        if inflater.eof:
            raise malformed(f"Something follows the end of the {coding} body.", "body")
        given: memoryview | bytes = whole[start : start + PIECE_BYTES]
        start += PIECE_BYTES
        while given and not inflater.eof:
            try:
                parts.append(inflater.decompress(given, PIECE_BYTES))
            except zlib.error:
                raise malformed(f"The body is not compressed with {coding}.", "Content-Encoding") from None
            given = inflater.unconsumed_tail
            size += len(parts[-1])
            if size > most_bytes:
                said = f"The body must be at most {most_bytes} bytes uncompressed."
                raise RequestError(BODY_TOO_LARGE, said, field="body")
            yield
    if not inflater.eof:
        raise malformed(f"The {coding} body is cut off.", "body")
    if inflater.unused_data:
        raise malformed(f"Something follows the end of the {coding} body.", "body")
    return b"".join(parts)


def deflate_in_steps(parts: Sequence[bytes], coding: str) -> Steps[bytes]:
    """Return ``parts`` compressed."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding])
    made: list[bytes] = []
    for part in parts:
        whole = memoryview(part)
        for start in range(0, len(part), PIECE_BYTES):
            made.append(deflater.compress(whole[start : start + PIECE_BYTES]))
            yield
    made.append(deflater.flush())
    return b"".join(made)


def document_of(body: bytes, length: int | None) -> bytes:
    """Return the JSON.

    Raises:
        RequestError: ``MALFORMED``: the body is shorter than the header says.
    """
    if length is None:
        return body
    if length > len(body):
        raise malformed(f"{_NAME} is {length}, but the body has {len(body)} bytes.", _NAME)
    return body if length == len(body) else body[:length]


def tensors_in(body: bytes, start: int, inputs: Sequence[InferInput]) -> list[InputTensor | BinaryTensor]:
    """Give each input its data: those of its JSON, or its part of what follows.

    Args:
        start: where the binary data begin in ``body``.

    Raises:
        RequestError: ``MALFORMED``, ``UNSUPPORTED``; its field names the input.
    """
    found: list[InputTensor | BinaryTensor] = []
    at = start
    for index, one in enumerate(inputs):
        size = None
        if one.parameters is not None:
            one.parameters.check(f"inputs[{index}]")
            size = one.parameters.binary_data_size
        if size is None:
            if not one.data:
                raise malformed("An input has data, or binary_data_size.", f"inputs[{index}].data")
            if one.datatype == "BF16":
                raise malformed("BF16 can only be sent as binary data.", f"inputs[{index}].datatype")
            found.append(InputTensor(one.name, one.shape, one.datatype, one.data))
            continue
        field = f"inputs[{index}].parameters.binary_data_size"
        if one.data:
            raise malformed("An input has data or binary_data_size, not both.", field)
        if size > len(body) - at:
            raise malformed(f"{size} bytes of binary data are announced, but {len(body) - at} are left.", field)
        found.append(BinaryTensor(one.name, one.shape, one.datatype, body[at : at + size]))
        at += size
    if at != len(body):
        raise malformed(f"{len(body) - at} bytes follow the data of the last input.", "body")
    return found

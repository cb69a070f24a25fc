"""Cutting a long list of texts into requests of a size that a model takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from producer_api.inference.codec import Decoded
from shared.state.cards import Card
from shared.wire.messages import Request, Tensor, pack
from shared.wire.outcomes import invalid

from .texts import TOKENS_TYPE

BYTES_PER_TOKEN: Final = 4
"""Of a text, about: what the front end knows of tokens without a tokenizer."""

_LENGTH_BYTES: Final = 4
_tokens: Final = msgspec.msgpack.Decoder(list[list[int]])


def cut(decoded: Decoded, rows: int, card: Card, *, can_be_cut: bool, field: str) -> Decoded:
    """Cut a request with more rows, or about more tokens, than suit the model into several.

    Args:
        decoded: whose request has texts or tokens.
        rows: how many.
        can_be_cut: it is answered at once, so that somebody is here who joins the answers.
        field: name of the member, for errors.

    Raises:
        RequestError: ``INVALID_INPUT``: it would have to be cut and cannot be.
    """
    request, most_rows, most_units = decoded.request, card.batch.max_batch, card.batch.max_units
    sizes = _sizes(request)
    if rows <= most_rows and (most_units is None or sum(sizes) <= most_units or rows == 1):
        return decoded
    spans = list(_spans(sizes, most_rows, most_units))
    if len(spans) == 1:
        return decoded
    if not can_be_cut:
        raise invalid(f"A request that is answered later has at most {most_rows} texts, and no very long list.", field)
    pieces = [
        msgspec.structs.replace(piece, id=_name(request.id, number))
        for number, piece in enumerate(_pieces(request, spans))
    ]
    counts = tuple(stop - start for start, stop in spans)
    return msgspec.structs.replace(decoded, request=pieces[0], pieces=tuple(pieces[1:]), sizes=counts)


def _name(request_id: str, number: int) -> str:
    """Return the id of a piece; the first keeps that of the request."""
    return request_id if not number else f"{request_id[:58]}-{number:05d}"


def _sizes(request: Request) -> list[int]:
    """Return about how many tokens each row has."""
    if request.content_type == TOKENS_TYPE:
        return [len(row) for row in _tokens.decode(request.body or b"")]
    assert request.inputs is not None
    data, at, sizes = request.inputs[-1].data, 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        sizes.append(-(-length // BYTES_PER_TOKEN))
        at += _LENGTH_BYTES + length
    return sizes


def _spans(sizes: Sequence[int], most_rows: int, most_units: int | None) -> Iterator[tuple[int, int]]:
    """Yield the first row of each piece and the one behind its last; a long text is alone."""
    start = units = 0
    for row, size in enumerate(sizes):
        is_full = most_units is not None and units + size > most_units
        if row > start and (row - start == most_rows or is_full):
            yield start, row
            start, units = row, 0
        units += size
    yield start, len(sizes)


def _pieces(request: Request, spans: Sequence[tuple[int, int]]) -> Iterator[Request]:
    if request.content_type == TOKENS_TYPE:
        rows = _tokens.decode(request.body or b"")
        for start, stop in spans:
            yield msgspec.structs.replace(request, body=pack(rows[start:stop]))
        return
    assert request.inputs is not None
    columns = [list(_elements(tensor.data, spans)) for tensor in request.inputs]
    for number, (start, stop) in enumerate(spans):
        inputs = tuple(
            Tensor(tensor.name, tensor.datatype, (stop - start,), column[number])
            for tensor, column in zip(request.inputs, columns, strict=True)
        )
        yield msgspec.structs.replace(request, inputs=inputs)


def _elements(data: bytes, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the elements of each span, as they are."""
    at = 0
    for start, stop in spans:
        begin = at
        for _ in range(stop - start):
            at += _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        yield data[begin:at]

"""What a request holds for family ``text``: texts, pairs of texts or arrays of tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.wire.messages import Request, Tensor, WireError, unpack
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

TEXT, QUERY = "text", "query"
PLAIN, PACKED = "text/plain", "application/vnd.headrace.text"

Texts = Sequence[str | tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks about: either ``texts`` or ``tokens`` is set.

    Attributes:
        texts: texts, or pairs of query and text.
        tokens: arrays of token ids; not checked.
        field: path of either in the request.
        truncates: what is too long is cut instead of refused.
    """

    texts: Texts | None
    tokens: Sequence[Sequence[Any]] | None
    field: str
    truncates: bool


def asked(request: Request, are_pairs: bool) -> Asked:
    """Read a request.

    Args:
        are_pairs: the model compares a query with texts.

    Raises:
        RequestError: ``INVALID_INPUT`` or ``UNSUPPORTED_MEDIA_TYPE``, with the field.
    """
    truncates = request.params.get("truncate", False)
    if not isinstance(truncates, bool):
        raise invalid("truncate must be true or false.", "parameters.truncate")
    if request.inputs is not None:
        return Asked(_of_inputs(request.inputs, are_pairs), None, "inputs", truncates)
    body = request.body or b""
    kind = (request.content_type or "").partition(";")[0].strip().lower()
    if kind == PACKED:
        return _of_list(_unpacked(body), are_pairs, truncates)
    if kind != PLAIN or are_pairs:
        takes = f"{PACKED} or tensors" if are_pairs else f"{PLAIN}, {PACKED} or tensors"
        raise RequestError(UNSUPPORTED_MEDIA_TYPE, f"This model takes {takes}, not {kind[:80] or 'a nameless body'}.")
    return Asked([_decoded(body, "body")], None, "body", truncates)


def _decoded(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"The text is not UTF-8: byte {error.start} is wrong.", field) from None


def _of_inputs(inputs: Sequence[Tensor], are_pairs: bool) -> Texts:
    names = (QUERY, TEXT) if are_pairs else (TEXT,)
    found: dict[str, list[str]] = {}
    for index, given in enumerate(inputs):
        path = f"inputs[{index}]"
        if given.name not in names:
            raise invalid(f"The model has no input {given.name[:80]!r}; it has {', '.join(names)}.", f"{path}.name")
        if given.name in found:
            raise invalid(f"Input {given.name} is there twice.", f"{path}.name")
        if given.datatype != "BYTES":
            raise invalid(f"Input {given.name} takes BYTES.", f"{path}.datatype")
        if len(given.shape) not in (0, 1, 2) or (len(given.shape) == 2 and given.shape[1] != 1):
            raise invalid(f"Input {given.name} takes shape [texts], not {list(given.shape)}.", f"{path}.shape")
        found[given.name] = _elements(given.data, f"{path}.data")
    for name in names:
        if not found.get(name):
            raise invalid(f"Input {name} is missing.", "inputs")
    if not are_pairs:
        return found[TEXT]
    queries, texts = found[QUERY], found[TEXT]
    if len(queries) not in (1, len(texts)):
        raise invalid(f"There must be one query, or one for each of the {len(texts)} texts.", "inputs")
    return list(zip(queries * len(texts) if len(queries) == 1 else queries, texts, strict=True))


def _elements(data: bytes, field: str) -> list[str]:
    texts: list[str] = []
    position = 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "little")
        texts.append(_decoded(data[position + 4 : end], f"{field}[{len(texts)}]"))
        position = end
    return texts


def _unpacked(body: bytes) -> list[Any]:
    try:
        found = unpack(body)
    except WireError as error:
        raise invalid(f"The body is not msgpack: {error}", "body") from None
    if not isinstance(found, list) or not found:
        raise invalid("The body must be a list of one or more texts, or of arrays of tokens.", "body")
    return found


def _of_list(found: list[Any], are_pairs: bool, truncates: bool) -> Asked:
    if are_pairs:
        for index, one in enumerate(found):
            if not (isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)):
                raise invalid("A pair is a list of two texts: the query and the text.", f"body[{index}]")
        return Asked([(query, text) for query, text in found], None, "body", truncates)
    for index, one in enumerate(found):
        if not isinstance(one, str | list) or type(one) is not type(found[0]):
            raise invalid("The list must hold texts only, or arrays of tokens only.", f"body[{index}]")
    if isinstance(found[0], str):
        return Asked(found, None, "body", truncates)
    return Asked(None, found, "body", truncates)

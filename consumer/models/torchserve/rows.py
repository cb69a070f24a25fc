"""One request as a handler gets it: a map from names to values, and its headers. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.state.cards import HEADER, TYPE_OF
from shared.wire.messages import Request
from shared.wire.outcomes import invalid

BODY = "body"
TEXT = "text/plain"
JSON = "application/json"
_TTL_MS = 60_000

Field = tuple[str, str, bytes]
"""Name, media type and bytes of one part of a request."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request, or one row of one.

    Attributes:
        fields: of its form; for a body as it is one with the name ``body``.
        is_blank: no request at all, which no handler sees.
        sent: headers that came with it.
    """

    request_id: str
    fields: tuple[Field, ...]
    is_blank: bool = False
    sent: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return what the handler gets, made anew: it may change it."""
        return {name: _value(content_type, value) for name, content_type, value in self.fields}

    def headers(self) -> Mapping[str, str]:
        """Return the headers that a handler can ask for."""
        types = [content_type for _, content_type, _ in self.fields[:1] if content_type]
        return {**self.sent, "X-Request-Id": self.request_id, **({"Content-Type": types[0]} if types else {})}

    def request(self) -> Request | None:
        """Return a request that makes this row; None where there is none."""
        if self.is_blank:
            return None
        [(_, content_type, body)] = self.fields
        return Request("example", _TTL_MS, content_type, body)


BLANK = Row("", (), is_blank=True)


def of_request(request: Request) -> Sequence[Row]:
    """Return the rows of a request: a body is one, and inputs have one for each element.

    Raises:
        RequestError: ``INVALID_INPUT``: an input is of another type than BYTES, or they have different sizes.
    """
    params = request.params
    sent = {name.removeprefix(HEADER): str(params[name]) for name in params if name.startswith(HEADER)}
    if request.body is not None:
        return [Row(request.id, ((BODY, request.content_type or "", request.body),), sent=sent)]
    columns = []
    for index, one in enumerate(request.inputs or ()):
        if one.datatype != "BYTES":
            raise invalid("A handler takes bytes: inputs of the datatype BYTES.", f"inputs[{index}].datatype")
        columns.append([(one.name, _type_of(request, one.name), value) for value in _elements(one.data)])
    if not columns or not columns[0] or len({len(column) for column in columns}) != 1:
        raise invalid("A handler takes one or more inputs, with the same number of elements, at least one.", "inputs")
    return [Row(request.id, fields, sent=sent) for fields in zip(*columns, strict=True)]


def packed(values: Iterable[bytes]) -> bytes:
    """Return the elements of a BYTES tensor as one."""
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def _type_of(request: Request, name: str) -> str:
    found = request.params.get(f"{TYPE_OF}{name}")
    return found if isinstance(found, str) else ""


def _elements(data: bytes) -> list[bytes]:
    found, position = [], 0
    while position < len(data):
        (size,) = struct.unpack_from("<I", data, position)
        found.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    return found


def _value(content_type: str, value: bytes) -> Any:
    """Return JSON and texts as what they are, everything else, and what is none after all, as bytes."""
    try:
        if content_type.partition(";")[0].strip().lower() == JSON:
            return json.loads(value)
        if content_type.startswith("text"):
            return value.decode()
    except (ValueError, RecursionError):
        pass
    return bytearray(value)

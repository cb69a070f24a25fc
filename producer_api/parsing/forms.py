"""The fields of a form that is there as a whole: ``multipart/form-data`` (RFC 7578), and query strings. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from shared.wire.outcomes import malformed

MULTIPART = "multipart/form-data"
MOST_FIELDS = 32
MOST_NAME = 256
_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'(?<![\w*])name="((?:[^"\\\r\n]|\\.){1,256})"', re.IGNORECASE)
_MOST_HEAD_BYTES = 8 * 1024


class Field(NamedTuple):
    """One field; ``content_type`` is empty where it says none."""

    name: str
    content_type: str
    value: bytes


def fields_of_form(body: bytes, content_type: bytes) -> list[Field]:
    """Cut a form.

    Args:
        content_type: the header, which names the boundary.

    Raises:
        RequestError: ``MALFORMED``: it is none, or has too many fields.
    """
    named = _BOUNDARY.search(content_type)
    if named is None:
        raise malformed("A form names its boundary in Content-Type.", "Content-Type")
    delimiter = b"\r\n--" + (named[1] or named[2])
    at = 0 if body.startswith(delimiter[2:]) else body.find(delimiter, 0, _MOST_HEAD_BYTES) + 2
    if at == 1:
        raise malformed("The form does not begin with its boundary.", "body")
    at += len(delimiter) - 2
    found: list[Field] = []
    while body[at : at + 2] == b"\r\n":
        if len(found) == MOST_FIELDS:
            raise malformed(f"A form has at most {MOST_FIELDS} fields.", "body")
        end = body.find(delimiter, at)
        head_end = body.find(b"\r\n\r\n", at, at + _MOST_HEAD_BYTES)
        if end < 0 or not 0 <= head_end < end:
            raise malformed("The form ends before its last boundary.", "body")
        found.append(_field(body[at + 2 : head_end], body[head_end + 4 : end]))
        at = end + len(delimiter)
    if body[at : at + 2] != b"--":
        raise malformed("After a boundary comes a line end, or -- after the last.", "body")
    return found


def fields_of_query(query: bytes) -> list[Field]:
    """Return the fields of a query string.

    Raises:
        RequestError: ``MALFORMED``: it has too many.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise malformed(f"A query has at most {MOST_FIELDS} fields.", "query") from None
    return [Field(name[:MOST_NAME], "", value.encode()) for name, value in pairs]


def _field(head: bytes, value: bytes) -> Field:
    headers = dict(line.partition(b":")[::2] for line in head.split(b"\r\n"))
    lower = {name.strip().lower(): said.strip() for name, said in headers.items()}
    name = _NAME.search(lower.get(b"content-disposition", b""))
    if name is None:
        raise malformed("A part of the form has no name.", "body")
    return Field(
        name[1].decode("utf-8", "replace"),
        lower.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()[:128],
        value,
    )

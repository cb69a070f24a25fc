"""What a caller wants to send, checked, in either form: a body with its content type, or tensors. [I/O: reads files]"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from shared.names import is_name
from shared.wire.messages import Scalar, Tensor

from .tensors import tensors_of

RAW = "application/octet-stream"
TEXT = "text/plain"
JSON = "application/json"
_DOCUMENTS = (JSON, "application/msgpack", "application/x-msgpack")

Sendable = bytes | bytearray | memoryview | str | Path


class Payload(msgspec.Struct, frozen=True):
    """One of ``body`` (with ``content_type``) and ``inputs``; ``params`` are options: ``top_k``, ``truncate``."""

    content_type: str | None
    body: bytes | None
    inputs: tuple[Tensor, ...] | None
    params: Mapping[str, Scalar]

    @property
    def is_document(self) -> bool:
        """Whether the body is JSON or msgpack, which holds its options itself."""
        return _media_type(self) in _DOCUMENTS


def payload(
    body: Sendable | None,
    inputs: Mapping[str, Any] | None,
    content_type: str | None,
    top_k: int | None,
    truncate: bool,
) -> Payload:
    """Check what is to be sent.

    Raises:
        ValueError: neither or both of ``body`` and ``inputs`` are given, or a value cannot be sent.
        OSError: ``body`` is the path of a file that cannot be read.
    """
    if (body is None) == (inputs is None):
        raise ValueError("Give either a body or inputs.")
    options: dict[str, Scalar] = {"truncate": True} if truncate else {}
    if top_k is not None:
        options["top_k"] = top_k
    if inputs is not None:
        if content_type is not None:
            raise ValueError("content_type belongs to a body; inputs have none.")
        return Payload(None, None, tensors_of(inputs), options)
    if isinstance(body, str):
        return Payload(content_type or TEXT, body.encode(), None, options)
    if isinstance(body, Path):
        return Payload(content_type or mimetypes.guess_type(body.name)[0] or RAW, body.read_bytes(), None, options)
    if isinstance(body, bytes | bytearray | memoryview):
        return Payload(content_type or RAW, bytes(body), None, options)
    raise ValueError(f"A body must be bytes, a text or a Path, not {type(body).__name__}.")


def with_parameters(document: Payload, params: Mapping[str, Scalar]) -> bytes:
    """Return a document with more options among its ``parameters``.

    Raises:
        ValueError: it is none.
    """
    codec = msgspec.json if _media_type(document) == JSON else msgspec.msgpack
    try:
        members = codec.decode(document.body or b"", type=dict[str, msgspec.Raw])
        own = codec.decode(members["parameters"], type=dict[str, Any] | None) if "parameters" in members else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"The body is no {document.content_type} that Headrace reads: {error}.") from None
    encoded: bytes = codec.encode({**members, "parameters": {**(own or {}), **params}})
    return encoded


def _media_type(sent: Payload) -> str:
    return (sent.content_type or "").partition(";")[0].strip().lower()


def checked_id(request_id: str | None) -> str:
    """Return a request's own id, or a new one that nobody has used.

    Raises:
        ValueError: it is none.
    """
    if request_id is None:
        return uuid4().hex
    if not is_name(request_id):
        raise ValueError(f"request_id must have 1 to 64 letters, digits, '_' or '-', not {str(request_id)[:80]!r}.")
    return request_id


def checked_model(model: str) -> str:
    """Return a model's name.

    Raises:
        ValueError: it is none.
    """
    if not is_name(model):
        raise ValueError(f"A model's name has 1 to 64 letters, digits, '_' or '-', not {str(model)[:80]!r}.")
    return model

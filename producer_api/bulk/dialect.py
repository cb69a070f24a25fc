"""How a batch's items are written, and its results: the interface, and our own. Pure."""

from __future__ import annotations

from typing import Any, Final, Protocol

from msgspec import UNSET, Raw

from producer_api.inference.codec import Codec, Head
from producer_api.inference.encoding import json_encoder
from producer_api.inference.native import NATIVE, PATH
from producer_api.parsing.bulk_schemas import ItemError, ResultLine
from shared.wire.outcomes import OK, RequestError


class Dialect(Protocol):
    """One way to write them.

    Attributes:
        codec: of an item and of its answer.
    """

    codec: Codec

    def path(self, model: str) -> str:
        """Return the path that an item may name."""

    def check(self, head: Head, body: bytes, model: str) -> None:
        """See that an item belongs into a batch of this model.

        Raises:
            RequestError: it does not.
        """

    def label(self, name: str, asked: Any) -> bytes:
        """Return what the line of an item's result has to say besides its reply; at most 65,535 bytes.

        Args:
            name: the client's own, empty for none.
            asked: of ``Decoded``, None where the item could not be decoded.
        """

    def read_label(self, label: bytes) -> tuple[str, Any]:
        """Return the name and what was asked."""

    def answered(self, number: int, request_id: str, name: str, body: bytes) -> bytes:
        """Return the line of an item with this answer."""

    def refused(self, number: int, name: str, error: RequestError) -> bytes:
        """Return the line of an item that ended with an error."""


class NativeItems(Dialect):
    """Items as bodies of requests to ``/v1/models/{model}/predict``."""

    codec = NATIVE

    def path(self, model: str) -> str:
        """See the interface."""
        return PATH.format(model=model)

    def check(self, head: Head, body: bytes, model: str) -> None:
        """See the interface: they name no model."""

    def label(self, name: str, asked: Any) -> bytes:
        """See the interface."""
        return name.encode("utf-8", "replace")

    def read_label(self, label: bytes) -> tuple[str, Any]:
        """See the interface."""
        return label.decode("utf-8", "replace"), None

    def answered(self, number: int, request_id: str, name: str, body: bytes) -> bytes:
        """See the interface."""
        line = ResultLine(index=number, id=name or UNSET, status=OK.status, response=Raw(body))
        return json_encoder.encode(line)

    def refused(self, number: int, name: str, error: RequestError) -> bytes:
        """See the interface."""
        detail = ItemError(error.outcome.code, error.message, error.field)
        line = ResultLine(index=number, id=name or UNSET, status=error.outcome.status, error=detail)
        return json_encoder.encode(line)


NATIVE_ITEMS: Final = NativeItems()

"""What the dialects of embedding servers have in common: their errors, and a model that need not be named. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from producer_api.inference.codec import Head, Response
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import JSON
from producer_api.inference.platforms.chosen import ChosenModel
from producer_api.parsing.steps import Steps
from shared.wire.outcomes import RequestError

from .documents import NamedModelCodec, checked_name, decoded, shortened
from .errors import STATUS


class _MayName(Struct, frozen=True):
    """The member that says which model."""

    model: str | None = None


class ServerError(Struct, frozen=True):
    """Every error has this shape: ``error`` and ``error_type`` as text-embeddings-inference, ``message`` as Cohere."""

    error: str
    error_type: str
    message: str


_may_name: Final = msgspec.json.Decoder(_MayName)


class ServerCodec(NamedModelCodec):
    """Codecs whose requests may name a model.

    Args:
        chosen: returns the name of the model of requests that name none.
    """

    def __init__(self, chosen: ChosenModel) -> None:
        self._chosen = chosen

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """See the interface."""
        short = yield from shortened(body)
        name = decoded(short.rest, _may_name).model
        return self._chosen() if name is None else checked_name(name)

    def error(self, error: RequestError) -> Any:
        """See the interface."""
        status = STATUS.get(error.outcome.status, error.outcome.status)
        text = error.message if error.field is None else f"{error.field}: {error.message}"
        return Response(status, JSON, json_encoder.encode(ServerError(text, error.outcome.code, text)))

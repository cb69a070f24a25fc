"""Errors as OpenAI's clients read them. Pure.

https://platform.openai.com/docs/guides/error-codes: ``{"error": {"message", "type", "param", "code"}}``. The stock
clients choose the class of the exception by the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from producer_api.inference.codec import Response
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import JSON
from shared.wire.outcomes import (
    CLIENT_LIMIT,
    INVALID_INPUT,
    LANE_FULL,
    UNAUTHORIZED,
    UNKNOWN_LANE,
    UNKNOWN_MODEL,
    WAIT_TOO_LONG,
    RequestError,
)

STATUS: Final = {INVALID_INPUT.status: 400}
"""What this dialect has instead of an outcome's own status."""

_PLACE: Final = re.compile(r"(?:inputs(?:\[0\]\.data)?|body(?=\[))(\[\d+\])?\Z")

_CODES: Final = {
    UNKNOWN_MODEL: "model_not_found",
    UNAUTHORIZED: "invalid_api_key",
    CLIENT_LIMIT: "rate_limit_exceeded",
    LANE_FULL: "rate_limit_exceeded",
    WAIT_TOO_LONG: "rate_limit_exceeded",
    UNKNOWN_LANE: "model_not_found",
}
"""Codes that its clients look for; every other outcome has its own."""


class OpenAIErrorDetail(Struct, frozen=True):
    """What went wrong; ``param`` names the member of the request that is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(Struct, frozen=True):
    """Every error has this shape."""

    error: OpenAIErrorDetail


def detail_of(error: RequestError) -> OpenAIErrorDetail:
    """Say an error in OpenAI's words."""
    status = error.outcome.status
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    return OpenAIErrorDetail(error.message, kind, error.field, _CODES.get(error.outcome, error.outcome.code))


def of_member(error: RequestError, member: str) -> RequestError:
    """Return an error about a text as its model names it with the place that the text has in the request.

    Args:
        member: that holds the texts.
    """
    found = _PLACE.match(error.field or "")
    if found is not None:
        error.field = member + (found[1] or "")
    return error


def renamed(error: RequestError, members: Mapping[str, str]) -> RequestError:
    """Return an error about a parameter of the model with the name that it has in the request.

    Args:
        members: names in the request by those that the model knows.
    """
    error.field = members.get(error.field or "", error.field)
    return error


def encoded(error: RequestError) -> Response:
    """Encode an error."""
    status = STATUS.get(error.outcome.status, error.outcome.status)
    return Response(status, JSON, json_encoder.encode(OpenAIError(detail_of(error))))

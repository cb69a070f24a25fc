"""The one shape of every error, and how it is sent."""

from __future__ import annotations

from starlette.types import Send

from producer_api.parsing.schemas import ErrorDetail, ErrorResponse
from shared.wire.messages import Fault
from shared.wire.outcomes import BY_CODE, INTERNAL, UNAUTHORIZED, RequestError

from .encoding import json_encoder

DEFAULT_RETRY_AFTER_S = 1

Headers = list[tuple[bytes, bytes]]

EVERYWHERE = [("x-content-type-options", "nosniff")]
"""Headers of every answer: a browser does not take one for anything but what it says it is."""

NOT_KEPT = (b"cache-control", b"no-store")
"""On errors, and on what is asked for with GET and changes."""

EVERYWHERE_LINES = b"".join(f"{name}: {value}\r\n".encode() for name, value in EVERYWHERE)
"""The same as they are sent."""


def from_fault(fault: Fault, request_id: str) -> RequestError:
    """Turn a consumer's refusal into the error to send; codes this version does not know become ``INTERNAL``."""
    outcome = BY_CODE.get(fault.code)
    if outcome is None or outcome.status < 400:
        return RequestError(INTERNAL, "The worker answered in a way this version does not know.", request_id=request_id)
    return RequestError(outcome, fault.message, field=fault.field, request_id=request_id)


def body_of(error: RequestError) -> bytes:
    """Encode an error as JSON; errors are JSON whatever Accept says."""
    return json_encoder.encode(
        ErrorResponse(ErrorDetail(error.outcome.code, error.message, error.field, error.request_id))
    )


def headers_of(error: RequestError) -> Headers:
    """Headers an error adds to its response."""
    headers: Headers = [NOT_KEPT]
    if error.outcome.retry:
        headers.append((b"retry-after", str(error.retry_after_s or DEFAULT_RETRY_AFTER_S).encode()))
    if error.outcome is UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.request_id is not None:
        headers.append((b"x-request-id", error.request_id.encode()))
    return headers


async def send_error(send: Send, error: RequestError, extra: Headers | None = None) -> None:
    """Send a whole error response."""
    body = body_of(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers_of(error),
        *(extra or ()),
    ]
    await send({"type": "http.response.start", "status": error.outcome.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

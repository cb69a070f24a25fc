"""From what went wrong to the response that says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shared.wire.messages import Fault
from shared.wire.outcomes import BY_CODE, INTERNAL, REQUEST_TIMEOUT, SHUTTING_DOWN, UNAUTHORIZED, RequestError

from .codec import Codec, Headers, Response
from .native import NATIVE

log = logging.getLogger("headrace.http")

DEFAULT_RETRY_AFTER_S = 1

NOT_KEPT = (b"cache-control", b"no-store")
"""On errors: what is asked for with GET may change."""

_LAST = (SHUTTING_DOWN, REQUEST_TIMEOUT)
"""After these the connection is of no use."""


def from_fault(fault: Fault, request_id: str) -> RequestError:
    """Turn a consumer's refusal into the error to send; codes this version does not know become ``INTERNAL``."""
    outcome = BY_CODE.get(fault.code)
    if outcome is None or outcome.status < 400:
        return RequestError(INTERNAL, "The worker answered in a way this version does not know.", request_id=request_id)
    return RequestError(outcome, fault.message, field=fault.field, request_id=request_id)


def internal_error() -> RequestError:
    """Make the error for a fault of ours, whose details go to the log only."""
    return RequestError(INTERNAL, "Something went wrong here; it has been logged.")


def refused(error: RequestError, codec: Codec = NATIVE) -> Response:
    """Return the response to a request that ended with ``error``."""
    response = codec.error(error)
    response.headers = _headers_of(error)
    response.request_id = error.request_id
    response.is_last = error.outcome in _LAST
    return response


def refused_somehow(error: RequestError, codec: Codec, about: Mapping[str, str]) -> Response:
    """As :func:`refused`, in our own dialect if the codec fails at it. Never raises.

    Args:
        about: what a log line about the request carries besides its words.
    """
    try:
        return refused(error, codec)
    except Exception as fault:
        log.error("Making an error response failed.", exc_info=fault, extra=about)
        return refused(internal_error())


def _headers_of(error: RequestError) -> Headers:
    headers: Headers = [NOT_KEPT]
    if error.outcome.retry:
        headers.append((b"retry-after", str(error.retry_after_s or DEFAULT_RETRY_AFTER_S).encode()))
    if error.outcome is UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers

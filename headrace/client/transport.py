"""The HTTP library, loaded when a client is made, and what its errors mean."""

from __future__ import annotations

import ssl
from functools import cache
from types import ModuleType
from typing import Any

from .exchange import Call, Lost

IDLE_S = 4.0
"""The front end closes what was idle for 5 s; a connection closed earlier cannot be lost under a request."""


@cache
def httpx() -> ModuleType:
    """Return the HTTP library.

    Raises:
        ImportError: it is missing; the sentence says what to install.
    """
    try:
        import httpx2
    except ImportError as error:
        raise ImportError("The HTTP client needs httpx2: pip install 'headrace[client]'.") from error
    return httpx2


def pool(verify: bool | str, connections: int) -> dict[str, Any]:
    """Return what a client of the library is made with."""
    trusted: bool | ssl.SSLContext = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
    limits = httpx().Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=IDLE_S)
    return {"verify": trusted, "limits": limits, "headers": {"Accept-Encoding": "identity"}}


def lost(error: Exception) -> Lost:
    """Say what an error of the library means."""
    if isinstance(error, httpx().TimeoutException):
        return Lost("No answer came in time.", is_late=True)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Lost(f"The certificate is not trusted: {cause.verify_message}.", is_final=True)
        cause = cause.__cause__ or cause.__context__
    return Lost(f"The connection failed: {str(error).rstrip('.') or type(error).__name__}.")


def options_of(call: Call) -> dict[str, Any]:
    """Return what the library is told of a call besides method and address."""
    return {"headers": dict(call.headers), "content": call.body, "timeout": call.timeout_s}

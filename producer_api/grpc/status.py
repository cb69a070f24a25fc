"""From outcomes to status codes of gRPC. Pure."""

from __future__ import annotations

from typing import Final

from shared.wire import outcomes
from shared.wire.outcomes import Outcome

_OF_OUTCOMES: Final = {
    outcomes.ALREADY_ANSWERED: "ALREADY_EXISTS",
    outcomes.KEY_REUSED: "ALREADY_EXISTS",
    outcomes.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    outcomes.BODY_TOO_LARGE: "RESOURCE_EXHAUSTED",
    outcomes.REQUEST_TIMEOUT: "DEADLINE_EXCEEDED",
    outcomes.QUEUE_OUT_OF_MEMORY: "RESOURCE_EXHAUSTED",
    outcomes.OVERLOADED: "RESOURCE_EXHAUSTED",
}
"""Where the HTTP status of an outcome does not say enough."""

_OF_STATUS: Final = {
    200: "OK",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def code_of(outcome: Outcome) -> str:
    """Return the name of the status code of a request that ended so.

    Clients and proxies send UNAVAILABLE again by themselves, so nothing has it that may have run.
    """
    found = _OF_OUTCOMES.get(outcome) or _OF_STATUS.get(outcome.status)
    if found is None:
        found = "INVALID_ARGUMENT" if outcome.status < 500 else "INTERNAL"
    return found

"""What a client raises. Pure."""

from __future__ import annotations

from shared.wire.outcomes import BY_CODE, QUEUE_UNAVAILABLE, UNKNOWN_OUTCOME, Outcome

CONNECTION_FAILED = "connection_failed"
BAD_ANSWER = "bad_answer"


class HeadraceError(Exception):
    """A request that has no answer.

    Attributes:
        code: stable name of what happened, as the table of docs/rest.md lists them; besides, ``connection_failed``
            (nobody answers there) and ``bad_answer`` (what came is no answer of Headrace).
        message: one sentence.
        field: which part of the request is wrong, such as ``inputs[0].data``; None if no single one is.
        request_id: to ask again with, or to fetch the answer with; None where no request was made.
        status: of HTTP; None if nothing was answered.
        retry_after_s: seconds after which it may succeed, where the service says so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.field = code, message, field
        self.request_id, self.status, self.retry_after_s = request_id, status, retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        """Let it pass between processes, such as those of a pool."""
        return _rebuilt, (self.code, self.message, self.__dict__)


def _rebuilt(code: str, message: str, attributes: dict[str, object]) -> HeadraceError:
    error = HeadraceError(code, message)
    error.__dict__.update(attributes)
    return error


def of_outcome(outcome: Outcome, message: str, request_id: str, field: str | None = None) -> HeadraceError:
    """Make the error that a front end would answer with."""
    return HeadraceError(outcome.code, message, field=field, request_id=request_id, status=outcome.status)


def of_code(code: str, message: str, request_id: str, field: str | None) -> HeadraceError:
    """Make the error of a code that a consumer replied with; one from a later version has no status here."""
    outcome = BY_CODE.get(code)
    status = None if outcome is None else outcome.status
    return HeadraceError(code, message, field=field, request_id=request_id, status=status)


def too_late(request_id: str | None, timeout_s: float) -> HeadraceError:
    """Make the error of a request whose time is over: whether it ran is unknown."""
    told = f"No answer came within {timeout_s:g} s; it may have run, or may still run."
    outcome = UNKNOWN_OUTCOME
    return HeadraceError(outcome.code, told, request_id=request_id, status=outcome.status)


def lost_queue(error: Exception, request_id: str) -> HeadraceError:
    """Make the error of a request that could not be put onto the queue."""
    told = f"The queue does not take the request: {str(error).rstrip('.') or type(error).__name__}."
    return of_outcome(QUEUE_UNAVAILABLE, told, request_id)

"""One request over HTTP with its attempts, for any kind of client to drive. Pure: no I/O, time comes in, in seconds.

A flow is a generator. It yields what is to be done next, an HTTP request (:class:`Call`) or a :class:`Pause`, and is
sent the time and what came of it; what it returns is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import msgspec

from .attempts import Attempts
from .errors import BAD_ANSWER, CONNECTION_FAILED, HeadraceError, too_late

T = TypeVar("T")

MSGPACK = "application/msgpack"
LONGEST_WAIT_S = 60.0
"""The longest time that a front end lets a client wait on its connection (``HEADRACE_MAX_TIMEOUT_MS`` as shipped)."""

MARGIN_S = 0.1
"""By so much, or a tenth, a front end is told less time than there is: then even its answer of a 504 arrives."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request to be sent.

    Attributes:
        path: with its query; to be put behind the service's address.
        timeout_s: how long to wait for the whole answer.
    """

    method: str
    path: str
    timeout_s: float
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Pause(msgspec.Struct, frozen=True):
    """A time to wait for."""

    pause_s: float


class Received(msgspec.Struct, frozen=True):
    """What was answered; names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Lost(msgspec.Struct, frozen=True):
    """Nothing was answered, or not all of it.

    Attributes:
        is_late: the time was over.
        is_final: trying again is in vain, as where the certificate is not trusted.
    """

    message: str
    is_late: bool = False
    is_final: bool = False


Event = tuple[float, Received | Lost | None]
Flow = Generator[Call | Pause, Event, T]


def wait_s(left_s: float) -> float:
    """Return how long a front end may take for an attempt that ends in ``left_s``."""
    return min(LONGEST_WAIT_S, left_s - min(MARGIN_S, left_s / 10))


def exchange(
    make: Callable[[float], Call], attempts: Attempts, now_s: float, request_id: str | None = None
) -> Flow[Received]:
    """Send a request until it is answered, or trying again is in vain.

    Args:
        make: makes the request, of the seconds that are left.

    Raises:
        HeadraceError: it ended without an answer.
    """
    while True:
        now_s, found = yield make(attempts.left_s(now_s))
        if isinstance(found, Received) and found.status < 400:
            return found
        error = error_of(found, request_id, attempts.timeout_s)
        is_final = isinstance(found, Lost) and found.is_final
        pause_s = None if is_final else attempts.pause_s(error, now_s)
        if pause_s is None:
            raise error
        now_s, _ = yield Pause(pause_s)


def pause_of_refusal(found: Received, attempts: Attempts, now_s: float) -> float:
    """Return how long to wait until a request without an id is sent again, after one that did not run.

    Raises:
        HeadraceError: it is not to be sent again.
    """
    error = error_of(found, None, attempts.timeout_s)
    pause_s = attempts.pause_s(error, now_s) if found.status in (429, 503) else None
    if pause_s is None:
        raise error
    return pause_s


class _Detail(msgspec.Struct):
    code: str
    message: str
    field: str | None = None
    id: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Detail


def error_of(found: Received | Lost | None, request_id: str | None, timeout_s: float) -> HeadraceError:
    """Make the error of an attempt."""
    if not isinstance(found, Received):
        if found is None or found.is_late:
            return too_late(request_id, timeout_s)
        return HeadraceError(CONNECTION_FAILED, found.message, request_id=request_id)
    try:
        detail = msgspec.json.decode(found.body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = f"The answer, of status {found.status}, is none of Headrace: is there something else at this address?"
        detail = _Detail(BAD_ANSWER, told)
    return HeadraceError(
        detail.code,
        detail.message,
        field=detail.field,
        request_id=request_id or detail.id,
        status=found.status,
        retry_after_s=_seconds(found.headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    """Read ``Retry-After``; a date, which Headrace does not send, counts as none."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else None


def decoded(received: Received, kind: type[T]) -> T:
    """Read the body of an answer.

    Raises:
        HeadraceError: it is none of Headrace.
    """
    decode = (
        msgspec.msgpack.decode if received.headers.get("content-type", "").startswith(MSGPACK) else msgspec.json.decode
    )
    try:
        return decode(received.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        told = f"The answer cannot be read ({error}): is there something else at this address?"
        raise HeadraceError(BAD_ANSWER, told, status=received.status) from None

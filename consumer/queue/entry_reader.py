"""From an entry of a lane to a request: weighed before it is decoded, since anybody may have written it."""

from __future__ import annotations

from shared.wire.fast import decode_request
from shared.wire.messages import Request, WireError, check_elements, sender_of
from shared.wire.outcomes import MALFORMED, RequestError

from .interface import Entry

LARGE_BYTES = 1024 * 1024
"""Decode threads make the rows of larger messages, not the thread that reads for all lanes."""


def read(entry: Entry, most_bytes: int) -> Request:
    """Decode the request of an entry; elements of type BYTES are left to :func:`check`.

    Args:
        most_bytes: a longer message is not decoded.

    Raises:
        WireError: it is none, with the id of its sender where that can be read.
    """
    message = entry.message
    if message is None:
        raise WireError("The entry has no field m.", "m")
    if len(message) > most_bytes:
        request_id, reply_to = sender_of(message)
        told = f"The message takes {len(message)} bytes, and at most {most_bytes} are read."
        raise WireError(told, request_id=request_id, reply_to=reply_to)
    return decode_request(message, checks_elements=False)


def needs_thread(entry: Entry) -> bool:
    """Say whether the pool of threads is to make its rows."""
    return entry.message is not None and len(entry.message) > LARGE_BYTES


def check(request: Request) -> None:
    """Check what takes time in proportion to the message: that BYTES elements fill their tensors.

    Raises:
        RequestError: ``MALFORMED``: they do not.
    """
    try:
        check_elements(request)
    except WireError as error:
        raise RequestError(MALFORMED, str(error), field=error.field or None) from None

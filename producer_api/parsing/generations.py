"""What is to be generated, from the member ``generate`` of a request in JSON to the body of a message. Pure."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from shared.wire.messages import pack
from shared.wire.outcomes import invalid, malformed

from .validation import from_validation

FIELD: Final = "generate"

_maps: Final = msgspec.json.Decoder(dict[str, Any])


def generation_body(raw: msgspec.Raw, run_ms: int, *, is_streamed: bool) -> bytes:
    """Return a body of the type ``application/vnd.headrace.generate``; the model checks its members.

    Args:
        raw: an object in JSON, with ``prompt``, ``tokens`` or ``messages``, and options.
        run_ms: how long it may run.
        is_streamed: parts of the answer are wanted as they are made.

    Raises:
        RequestError: ``INVALID_INPUT``, ``MALFORMED``.
    """
    try:
        asked = _maps.decode(raw)
    except msgspec.ValidationError as error:
        raise from_validation(error, FIELD) from None
    for name in ("stream", "run_ms"):
        if name in asked:
            raise invalid(f"{name} is not said here: Accept: text/event-stream asks for a stream.", f"{FIELD}.{name}")
    if asked.get("seed") is None:
        asked["seed"] = secrets.randbits(63)  # every attempt has the same
    try:
        return pack({**asked, "run_ms": run_ms, "stream": is_streamed})
    except (UnicodeEncodeError, OverflowError):
        raise malformed("A text has half of a surrogate pair, or a number is too large.", FIELD) from None

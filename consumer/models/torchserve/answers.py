"""What a handler returned: one answer for each row, as bytes with a media type."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consumer.models.own.returned import kind
from shared.wire.messages import MAX_TEXT
from shared.wire.outcomes import INVALID_INPUT, MODEL_ERROR, RequestError

from .ts.context import Context

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
RAW = "application/octet-stream"
MOST_ANSWER_BYTES = 1 << 30
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}[ -~]{0,120}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one row."""

    content_type: str
    body: bytes


NOTHING = Answer(RAW, b"")


def checked(returned: Any, count: int, context: Context) -> list[Answer | RequestError]:
    """Return the answers of a batch of ``count`` rows; an error for a row whose status the handler set to one.

    Raises:
        RequestError: ``MODEL_ERROR``: it is no list, of another length, or an answer cannot be sent.
    """
    if not isinstance(returned, Sequence) or isinstance(returned, str | bytes | bytearray):
        raise _wrong(f"it must return a list with one answer for each of {count} requests, not {kind(returned)}")
    if len(returned) != count:
        raise _wrong(f"it returned {len(returned)} answers for {count} requests")
    return [_one(value, index, context) for index, value in enumerate(returned)]


def _one(value: Any, index: int, context: Context) -> Answer | RequestError:
    content_type, body = _encoded(value)
    own = context.get_response_content_type(index)
    if own:
        if not isinstance(own, str) or not _MEDIA_TYPE.fullmatch(own):
            raise _wrong(f"the content type that it set is {str(own)[:80]!r}")
        content_type = own
    status, phrase = context.get_response_status(index)
    if isinstance(status, int) and status >= 400:
        text = str(phrase or body[:MAX_TEXT].decode("utf-8", "replace"))[:MAX_TEXT]
        return RequestError(INVALID_INPUT if status < 500 else MODEL_ERROR, text or f"The handler says {status}.")
    return Answer(content_type, body)


def _encoded(value: Any) -> tuple[str, bytes]:
    if isinstance(value, bytes | bytearray):
        return RAW, bytes(value)
    if isinstance(value, str):
        return TEXT, value.encode("utf-8", "replace")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        file = io.BytesIO()
        torch.save(value, file)
        return RAW, file.getvalue()
    try:
        return JSON, json.dumps(value, indent=2, default=_plain).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError):
        raise _wrong(f"an answer, {kind(value)}, cannot be written as JSON") from None


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy and torch as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError


def _wrong(what: str) -> RequestError:
    return RequestError(MODEL_ERROR, f"The handler's answer is wrong: {what}.")

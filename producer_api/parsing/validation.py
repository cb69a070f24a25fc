"""JSON as far as a schema says, and from a decoder's message to an error that names the member that is wrong."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shared.wire.outcomes import RequestError, invalid, malformed

T = TypeVar("T")

_any_json = msgspec.json.Decoder(msgspec.Raw)

_PLACE = " - at `$"
"""Stands before the place of what is wrong. What a stranger wrote may stand before that and look the same."""


def from_json(decoder: msgspec.json.Decoder[T], document: bytes, is_wrong: str = "The body is not valid JSON") -> T:
    """Decode a document in JSON as far as its schema says.

    Args:
        is_wrong: how the sentence begins that says why it is no JSON.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    try:
        try:
            return decoder.decode(document)
        except msgspec.ValidationError as error:
            _any_json.decode(document)  # the first member that does not fit may stand before the first syntax error
            raise from_validation(error) from None
    except RecursionError:
        raise malformed("The JSON is nested too deeply.", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(f"{is_wrong}: {reason(error)}.", "body") from None


def reason(error: Exception) -> str:
    """Return what a decoder says is wrong, in short."""
    text = str(error).removeprefix("JSON is malformed: ").removeprefix("MessagePack data is malformed: ")
    return text.strip().rstrip(".")[:120]


def from_validation(error: msgspec.ValidationError, under: str = "") -> RequestError:
    """Turn a validation error into ``INVALID_INPUT``.

    Args:
        error: what msgspec says, such as "Expected `int`, got `str` - at `$.inputs[0].shape[1]`".
        under: path of the member that was being decoded, put in front of the path in ``error``.
    """
    text = str(error)
    what, place, path = text.rpartition(_PLACE)
    if not place or path.find("`") != len(path) - 1:
        what, path = text, ""
    field = (under + path.rstrip("`")).removeprefix(".").replace("[...]", "")
    message = what[:300].replace("`", "'").rstrip(".")
    return invalid(f"{message}.", field or "body")

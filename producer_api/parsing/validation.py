"""From a decoder's message to an error that names the member that is wrong."""

from __future__ import annotations

import msgspec

from shared.wire.outcomes import RequestError, invalid

_PLACE = " - at `$"
"""Stands before the place of what is wrong. What a stranger wrote may stand before that and look the same."""


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

"""From what a decoder says to an error that names the member to blame."""

from __future__ import annotations

import re

import msgspec

from shared.outcomes import RequestError, invalid

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?\Z", re.DOTALL)


def from_validation(error: msgspec.ValidationError, under: str = "") -> RequestError:
    """Turn a validation error into ``INVALID_INPUT``.

    Args:
        error: what msgspec says, such as "Expected `int`, got `str` - at `$.inputs[0].shape[1]`".
        under: path of the member that was being decoded, put in front of the path in ``error``.
    """
    match = _PLACE.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    field = (under + path).removeprefix(".").replace("[...]", "")
    message = what.replace("`", "'").rstrip(".")[:300]
    return invalid(f"{message}.", field or "body")

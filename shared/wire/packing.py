"""msgpack maps of strangers: packed, and unpacked without making more values than a message of ours has. Pure."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec

from shared.limits import MAX_VALUES

from .tensors import WireError
from .value_count import holds_more_values

TOO_MANY_VALUES = "The message holds more values than any message of this format."


def pack(value: Any) -> bytes:
    """Encode ``value`` as msgpack."""
    return msgpack.packb(value)  # type: ignore[no-any-return]


def _no_extensions(code: int, data: bytes) -> Any:
    raise WireError(f"Extension types are not part of the format; type {code} was found.")


def unpack(message: bytes, most_values: int = MAX_VALUES) -> Any:
    """Decode one msgpack value that may hold maps with string keys, lists, strings, bytes, numbers, booleans, nil.

    Timestamps, extension type -1, come out as ``msgpack.Timestamp``; every member's check of types refuses them.

    Args:
        most_values: a message with more is refused before any is made.

    Raises:
        WireError: too many values, truncated, trailing bytes, extension types, nested too deeply, or not msgpack.
    """
    if len(message) > most_values and holds_more_values(message, most_values):
        raise WireError(what_is_wrong(message))
    try:
        return msgpack.unpackb(message, strict_map_key=True, ext_hook=_no_extensions, raw=False)
    except WireError:
        raise
    except msgpack.StackError:
        raise WireError("The message is nested too deeply.") from None
    except (msgpack.UnpackException, ValueError, RecursionError) as error:
        raise WireError(f"The message is not valid msgpack: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text[:120] or type(error).__name__


def what_is_wrong(message: bytes) -> str:
    """Say what is wrong with a message of too many values, which is skipped and not decoded."""
    try:
        _any_decoder.decode(message)
    except RecursionError:
        return "The message is nested too deeply."
    except msgspec.DecodeError as error:
        return f"The message is not valid msgpack: {_reason(error)}."
    return TOO_MANY_VALUES


_any_decoder = msgspec.msgpack.Decoder(msgspec.Raw)

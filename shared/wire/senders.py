"""Who sent a request that is not decoded for some reason. Pure."""

from __future__ import annotations

import msgspec

from shared.names import is_name


class _Sender(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    rt: msgspec.Raw = msgspec.Raw()


_sender_decoder = msgspec.msgpack.Decoder(_Sender)
_MOST_NAME_BYTES = 66  # a name of 64 letters behind the longest head that an encoder may write for it


def sender_of(message: bytes) -> tuple[str | None, str | None]:
    """Return id and rt of a request that is not decoded for some reason, None for what cannot be read.

    Nothing else of it is made, and the two only when they are names.
    """
    try:
        found = _sender_decoder.decode(message)
        request_id, reply_to = (_name(raw) for raw in (found.id, found.rt))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return request_id, reply_to if request_id is not None else None


def _name(raw: msgspec.Raw) -> str | None:
    value = msgspec.msgpack.decode(raw) if 1 < len(raw) <= _MOST_NAME_BYTES else None
    return value if type(value) is str and is_name(value) else None

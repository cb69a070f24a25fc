"""A request that waits no longer: the member ``urgent``, added to one that is encoded already. Pure."""

from __future__ import annotations

from typing import Final

_MEMBER: Final = b"\xa6urgent\xc3"
_FIXED_MAP, _FULL_MAP = 0x80, 0x8F


def urgent(message: bytes) -> bytes:
    """Return an encoded request with ``urgent`` = true.

    One with more members than a single byte can count stays as it is; ``encode_request`` makes none.
    """
    if not message or not _FIXED_MAP < message[0] < _FULL_MAP or message.endswith(_MEMBER):
        return message
    return bytes((message[0] + 1,)) + message[1:] + _MEMBER

"""The secrets that webhooks are signed with: the operator's, and those of lanes, which follow from them. Pure.

A receiver that can verify can also sign. So each lane has secrets of its own: a tenant cannot forge another's webhooks.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from typing import Final

from .keys import DEFAULT_LANE

PREFIX: Final = "whsec_"


def key_of(secret: str, lane: str = DEFAULT_LANE) -> bytes:
    """Return the key that a lane's webhooks are signed with.

    Args:
        secret: the operator's, ``whsec_BASE64``. The lane ``default`` uses it as it is.
    """
    key = b64decode(secret.removeprefix(PREFIX), validate=True)
    return key if lane == DEFAULT_LANE else hmac.digest(key, b"headrace lane " + lane.encode(), "sha256")


def secret_of(key: bytes) -> str:
    """Return the secret that stands for a key."""
    return PREFIX + b64encode(key).decode()

"""Signatures of Standard Webhooks, version 1. Pure.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence


def headers(keys: Sequence[bytes], webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a webhook.

    Args:
        keys: one signature for each, the first one first: receivers accept a webhook if one of them is theirs.
        webhook_id: the same for each attempt to deliver an event, and no other event's.
        timestamp_s: POSIX time of this attempt; receivers refuse what is minutes old.
    """
    content = f"{webhook_id}.{timestamp_s}.".encode() + body
    signatures = (b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }

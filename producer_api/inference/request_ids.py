"""Request ids that cannot be guessed: knowing an id allows reading its answer."""

from __future__ import annotations

import hashlib
import os

from producer_api.parsing.steps import Steps
from shared.wire.outcomes import malformed

ID_BYTES = 12
_AT_ONCE = 256

MOST_KEY_BYTES = 255

PIECE_BYTES = 512 * 1024


class RequestIds:
    """Makes ids of 24 hexadecimal digits. Randomness is fetched for many at once: a system call each would show."""

    __slots__ = ("_block", "_position")

    def __init__(self) -> None:
        self._block = ""
        self._position = 0

    def next(self) -> str:
        """Return an id that has not been returned before."""
        start = self._position
        if start == len(self._block):
            self._block, start = os.urandom(ID_BYTES * _AT_ONCE).hex(), 0
        self._position = start + 2 * ID_BYTES
        return self._block[start : self._position]


def id_of_key(key: bytes, secret: bytes = b"") -> str:
    """Return the request id that an ``Idempotency-Key`` stands for: the same on every front end.

    Args:
        secret: what only its client's requests come with, so that no other can name the same id, neither by the same
            key nor as an id of its own; empty where clients are not told apart.

    Raises:
        RequestError: ``MALFORMED``: the key is empty, too long, or not visible ASCII.
    """
    if not 1 <= len(key) <= MOST_KEY_BYTES or any(not 0x21 <= byte <= 0x7E for byte in key):
        raise malformed(f"An Idempotency-Key is 1 to {MOST_KEY_BYTES} visible ASCII characters.", "Idempotency-Key")
    return "key-" + hashlib.sha256(secret + key).hexdigest()[:40]


def fingerprint_in_steps(kind: str, query: bytes, body: bytes) -> Steps[str]:
    """Return what two requests with the same type, options and body have in common, and no others.

    How long the client waits is no part of what it asks for: after a 504 it may give the same request more time.
    """
    options = b"&".join(option for option in query.split(b"&") if not option.startswith(b"timeout_ms="))
    digest = hashlib.sha256(b"%b\0%b\0" % (kind.encode(), options))
    whole = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        digest.update(whole[start : start + PIECE_BYTES])
        if start + PIECE_BYTES < len(body):
            yield
    return digest.hexdigest()[:32]

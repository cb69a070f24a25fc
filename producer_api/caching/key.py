"""What two requests have in common that one inference answers. Pure.

Short inputs are compared byte by byte, longer ones by their BLAKE3 digests
(https://github.com/BLAKE3-team/BLAKE3-specs): clients choose the inputs, nobody can make two of one digest, and an
answer to another input would be worse than no cache. BLAKE3 is three to ten times as quick as SHA-256, also on
processors without instructions for that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from blake3 import blake3

from shared.wire.messages import Request, Tensor, pack

MOST_BYTES = 4 * 1024 * 1024
"""Larger inputs are not looked up: reading them would keep the event loop for more than a millisecond."""

SHORT_BYTES = 1024
"""So much is a part of the key as it is: making a digest takes longer than comparing it."""

KNOWN_BYTES = 8 * 1024 * 1024
KNOWN_SHARE = 8
SAMPLES = 64


class Identity(NamedTuple):
    """Which model would answer: one of another version or precision answers otherwise."""

    version: str
    precision: str


class KnownBodies:
    """Digests of long inputs that came lately. One that is the same to the last byte needs none made again.

    A few bytes of an input lead to the one that is compared with it, so an input that differs costs next to nothing.

    Attributes:
        used_bytes: what the inputs take that are kept, ``KNOWN_BYTES`` at most.
    """

    def __init__(self) -> None:
        self.used_bytes = 0
        self._known: OrderedDict[Hashable, tuple[bytes, bytes]] = OrderedDict()

    def digest(self, body: bytes, tenant: bytes) -> bytes:
        """Return the digest of an input.

        Args:
            tenant: whose it is: that another one has sent the same must not be seen by how long this takes.
        """
        sample = (tenant, len(body), body[-SAMPLES:], body[:: len(body) // SAMPLES + 1])
        known = self._known.get(sample)
        if known is not None and known[0] == body:
            self._known.move_to_end(sample)
            return known[1]
        digest = blake3(body).digest()
        self._keep(sample, body, digest)
        return digest

    def _keep(self, sample: Hashable, body: bytes, digest: bytes) -> None:
        if len(body) * KNOWN_SHARE > KNOWN_BYTES:
            return
        self._forget(sample)
        self._known[sample] = (body, digest)
        self.used_bytes += len(body)
        while self.used_bytes > KNOWN_BYTES:
            self._forget(next(iter(self._known)))

    def _forget(self, sample: Hashable) -> None:
        known = self._known.pop(sample, None)
        if known is not None:
            self.used_bytes -= len(known[0])


def key_of(request: Request, tenant: bytes, known: KnownBodies) -> Hashable | None:
    """Return the key of a request to a model; None for one whose input is not here, or is too large.

    Two requests have the same key if they are of the same tenant and have the same input and options. Ids, time
    limits and traces are no part of it, nor is the form of the answer, which is made of the same reply.

    Args:
        tenant: who may get each other's answers; empty for everybody.
    """
    # msgpack marks the type of each value: to Python 1 and True are the same.
    options = pack(sorted(request.params.items())) if request.params else b""
    body = request.body
    if body is None:
        return None if request.inputs is None else _of_tensors(request.inputs, options, tenant)
    size = len(body)
    if size <= SHORT_BYTES:
        return tenant, request.content_type, options, body
    # The size keeps a short input apart that looks like a digest.
    return (tenant, request.content_type, options, known.digest(body, tenant), size) if size <= MOST_BYTES else None


def _of_tensors(inputs: tuple[Tensor, ...], options: bytes, tenant: bytes) -> Hashable | None:
    size = sum([len(tensor.data) for tensor in inputs])
    if size <= SHORT_BYTES:
        return tenant, options, tuple([(one.name, one.datatype, tuple(one.shape), one.data) for one in inputs])
    if size > MOST_BYTES:
        return None
    digest = blake3()
    for tensor in inputs:
        digest.update(tensor.data)
    shapes = tuple([(one.name, one.datatype, tuple(one.shape), len(one.data)) for one in inputs])
    return tenant, options, shapes, digest.digest()


def bytes_of(key: Hashable) -> int:
    """Return how many bytes of inputs, options and names a key holds."""
    if isinstance(key, tuple):
        return sum(bytes_of(part) for part in key)
    return len(key) if isinstance(key, bytes | str) else 0

"""BF16 elements made FP32 or FP16, without numpy. Pure.

The queue has no BF16, and no model here takes it: those that compute in it take FP32. A BF16 number is the upper half
of an FP32 number, so widening is exact and costs two copies; no consumer has to know of it.
"""

from __future__ import annotations

import struct

from .steps import Steps

WIDER = ("FP32", "FP16")
"""What BF16 can be made."""

PIECE_BYTES = 64 * 1024


def widen_in_steps(data: bytes, datatype: str) -> Steps[bytes]:
    """Return BF16 elements as ``datatype``, both little-endian.

    FP32 holds every BF16 number. FP16 holds those up to 65504; below 6.1e-5 it rounds.

    Raises:
        OverflowError: a number is too large for FP16.
    """
    parts = []
    for start in range(0, len(data), PIECE_BYTES):
        wide = _as_fp32(data[start : start + PIECE_BYTES])
        parts.append(wide if datatype == "FP32" else _as_fp16(wide))
        if start + PIECE_BYTES < len(data):
            yield
    return b"".join(parts)


def _as_fp32(data: bytes) -> bytes:
    wide = bytearray(2 * len(data))
    wide[2::4] = data[0::2]
    wide[3::4] = data[1::2]
    return bytes(wide)


def _as_fp16(wide: bytes) -> bytes:
    count = len(wide) // 4
    return struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", wide))

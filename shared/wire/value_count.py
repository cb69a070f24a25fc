"""How many values a msgpack message holds, found without making any of them. Pure.

A generic decoder may make an object of every byte: 16 MiB of empty maps take more than a gigabyte.
So a process counts the values of a stranger's message before it decodes it, and counts no further than needed.
"""

from __future__ import annotations

from struct import Struct

_LENGTHS = {1: Struct(">B"), 2: Struct(">H"), 4: Struct(">I")}

# By type byte: bytes of the length behind it, bytes that follow besides those of the length, and how many values
# there are for each of the length (0: the length counts bytes).
_SIZED = {
    **{0xC4 + n: (1 << n, 0, 0) for n in range(3)},  # bin
    **{0xC7 + n: (1 << n, 1, 0) for n in range(3)},  # ext
    **{0xD9 + n: (1 << n, 0, 0) for n in range(3)},  # str
    **{0xDC + n: (2 << n, 0, 1) for n in range(2)},  # array
    **{0xDE + n: (2 << n, 0, 2) for n in range(2)},  # map
}
# Bytes behind the type byte, where they are always as many.
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
          0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip


def holds_more_values(message: bytes, most: int) -> bool:
    """Say whether a message holds more than ``most`` values, those inside others and the keys of maps included.

    What is cut off or no msgpack counts as far as it can be read, which is as far as any decoder gets. The length of a
    list or map counts only as far as its values are there.

    Args:
        message: perhaps msgpack; nothing is assumed.
        most: the time this takes grows with it, and not with the message.
    """
    at, left, end = 0, 1, len(message)
    for _ in range(most):
        if left == 0 or at >= end:
            return False
        kind = message[at]
        at += 1
        left -= 1
        if kind <= 0x7F or kind >= 0xE0:
            continue
        if kind <= 0x8F:
            left += 2 * (kind - 0x80)
        elif kind <= 0x9F:
            left += kind - 0x90
        elif kind <= 0xBF:
            at += kind - 0xA0
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind in _SIZED:
            width, extra, each = _SIZED[kind]
            if at + width > end:
                return False
            (size,) = _LENGTHS[width].unpack_from(message, at)
            at += width + extra + (0 if each else size)
            left += each * size
    return left > 0 and at < end

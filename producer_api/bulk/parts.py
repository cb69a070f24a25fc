"""Parts: how items and answers lie in the result store, many in one object, and which items a part holds. Pure.

A part is ``HRB1`` and records, one behind the other: the item's number, the length of its name and of its payload
(little-endian, 4, 2 and 4 bytes), its name in UTF-8, its payload. The payload is a message of the queue: a request in
parts of what came in, a reply in parts of results. An item that was refused when it came has its reply already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

MAGIC: Final = b"HRB1"
HEAD: Final = struct.Struct("<IHI")

ERROR: Final = 1 << 31
"""Set in the number of an item whose payload is a reply with an error."""


class PartDamaged(Exception):
    """What lies in the store is no part."""


class Record(NamedTuple):
    """One item of a part.

    Attributes:
        number: in its batch, from 0.
        name: the client's own, in UTF-8; empty where it gave none.
        payload: a request or a reply, encoded.
        has_error: the payload is a reply with an error; in a part of what came in, the item is not run.
    """

    number: int
    name: bytes
    payload: bytes
    has_error: bool = False


def encode(records: Iterable[Record]) -> bytes:
    """Return a part."""
    pieces = [MAGIC]
    for number, name, payload, has_error in records:
        pieces += (HEAD.pack(number | ERROR if has_error else number, len(name), len(payload)), name, payload)
    return b"".join(pieces)


def decode(part: bytes) -> Iterator[Record]:
    """Return a part's records in their order.

    Raises:
        PartDamaged: it is cut short, or no part.
    """
    if part[:4] != MAGIC:
        raise PartDamaged("The object is no part of a batch.")
    at, unpack, end = 4, HEAD.unpack_from, len(part)
    while at < end:
        try:
            index, name_bytes, payload_bytes = unpack(part, at)
        except struct.error:
            raise PartDamaged("A part of the batch is cut short.") from None
        name_at = at + HEAD.size
        payload_at = name_at + name_bytes
        at = payload_at + payload_bytes
        if at > end:
            raise PartDamaged("A part of the batch is cut short.")
        yield Record(index & ~ERROR, part[name_at:payload_at], part[payload_at:at], index >= ERROR)


def ranges_text(indexes: Sequence[int]) -> str:
    """Write numbers in their order, neighbours as a range: ``0-5,9,7``."""
    texts: list[str] = []
    first = last = None
    for index in indexes:
        if last is not None and index == last + 1:
            last = index
            continue
        if first is not None:
            texts.append(str(first) if first == last else f"{first}-{last}")
        first = last = index
    if first is not None:
        texts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(texts)


def indexes_of(text: str) -> list[int]:
    """Read what :func:`ranges_text` wrote.

    Raises:
        PartDamaged: it is something else.
    """
    found: list[int] = []
    try:
        for piece in text.split(",") if text else ():
            first, dash, last = piece.partition("-")
            found += range(int(first), int(last) + 1) if dash else (int(first),)
    except ValueError:
        raise PartDamaged("The list of a batch's parts cannot be read.") from None
    return found


class PartEntry(NamedTuple):
    """What Redis knows of a part of results.

    Attributes:
        key: where it lies below its batch's results.
        size_bytes: its size.
        indexes: the items that it answers, in the order of its records.
    """

    key: str
    size_bytes: int
    indexes: Sequence[int]

    def text(self) -> str:
        """Write it as Redis stores it."""
        return f"{self.key} {self.size_bytes} {ranges_text(self.indexes)}"

    @classmethod
    def of(cls, text: str) -> PartEntry:
        """Read it.

        Raises:
            PartDamaged: it is no entry.
        """
        key, _, rest = text.partition(" ")
        size, _, ranges = rest.partition(" ")
        if not size.isdigit():
            raise PartDamaged("The list of a batch's parts cannot be read.")
        return cls(key, int(size), indexes_of(ranges))

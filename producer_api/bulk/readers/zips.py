"""Zips of photographs, read as they come: no entry is written anywhere under its name. Pure.

Format: PKWARE's APPNOTE.TXT 6.3. A zip is read from its local headers; the directory at its end must list as many
entries as came before it. What an entry expands to is counted while it expands, so that a few bytes cannot become many.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator, Iterator
from typing import Final

from msgspec import Struct

from shared.wire.outcomes import BODY_TOO_LARGE, RequestError, invalid, malformed

from .items import Item, SteppedReader, name_of

MOST_RATIO: Final = 100
"""How many times its bytes an entry may expand to. Photographs hardly shrink; a bomb shrinks a thousand times."""

FREE_BYTES: Final = 1024 * 1024
"""Up to here any ratio is fine."""

STEP_BYTES: Final = 256 * 1024

_LOCAL, _CENTRAL, _DESCRIPTOR = b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08"
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_HEAD = struct.Struct("<2xHH4xIIIHH")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _STREAMED, _PATCHED, _STRONG, _UTF8, _MASKED = 1, 1 << 3, 1 << 5, 1 << 6, 1 << 11, 1 << 13
_UNKNOWN = 0xFFFFFFFF
_DRIVE = re.compile(r"[A-Za-z]:")

Steps = Generator[Item | None, None, bytes]


class _Entry(Struct):
    """What a local header says. Sizes are 0 where they come behind the data."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int

    @property
    def is_streamed(self) -> bool:
        return bool(self.flags & _STREAMED)


class Zip(SteppedReader):
    """Cuts a zip into its files. Folders, hidden files and what macOS adds are left out.

    Args:
        most_file_bytes: largest file, expanded; a larger one errs alone.
        most_bytes: what all files may expand to.
    """

    def __init__(self, most_file_bytes: int, most_bytes: int) -> None:
        self._most_file_bytes, self._most_bytes = most_file_bytes, most_bytes
        self._expanded = self._entries = 0
        super().__init__("The zip ends before its directory does: it is not complete.")

    def _parse(self) -> Iterator[Item | None]:
        while (mark := (yield from self._take(4))) == _LOCAL:
            self._entries += 1
            entry = yield from self._entry()
            data, sum_, size = yield from self._data(entry)
            if _is_photograph(entry.name):
                yield self._item(entry, data, sum_, size)
        listed = yield from self._directory(mark)
        if listed != self._entries:
            raise malformed(f"The zip's directory lists {listed} entries, and {self._entries} came before it.", "body")
        yield from self._skip_the_rest()

    def _take(self, count: int) -> Steps:
        while len(self._buffer) < count:
            yield from self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _entry(self) -> Generator[Item | None, None, _Entry]:
        flags, method, crc, packed, size, name_bytes, extra_bytes = _HEAD.unpack((yield from self._take(26)))
        raw = yield from self._take(name_bytes)
        extra = yield from self._take(extra_bytes)
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        _check_name(name)
        if flags & (_ENCRYPTED | _STRONG | _MASKED):
            raise invalid(f"The entry {name[:80]!r} is encrypted; send the zip without a password.", "body")
        if method not in (_STORED, _DEFLATED) or flags & _PATCHED:
            raise invalid(f"The entry {name[:80]!r} is compressed by method {method}; deflate and store work.", "body")
        if _UNKNOWN in (packed, size):
            size, packed = _sizes_64(extra, size, packed)
        return _Entry(name, flags, method, crc, packed, size)

    def _data(self, entry: _Entry) -> Generator[Item | None, None, tuple[bytes, int, int]]:
        """Return an entry's data, none if it is too large, their checksum and their size."""
        if entry.method == _DEFLATED:
            found = yield from self._inflated(entry)
        elif entry.is_streamed and not entry.packed:
            return (yield from self._until_descriptor(entry))
        else:
            found = yield from self._stored(entry)
        if entry.is_streamed:
            yield from self._descriptor(entry)
        return found

    def _stored(self, entry: _Entry) -> Generator[Item | None, None, tuple[bytes, int, int]]:
        left, sum_, kept = entry.packed, 0, bytearray()
        while left:
            piece = yield from self._take(min(left, STEP_BYTES))
            left -= len(piece)
            sum_ = zlib.crc32(piece, sum_)
            self._count(entry, len(piece), entry.packed, entry.packed)
            self._keep(kept, piece, entry.packed)
        return bytes(kept), sum_, entry.packed

    def _inflated(self, entry: _Entry) -> Generator[Item | None, None, tuple[bytes, int, int]]:
        inflating, sum_, size, read, kept = zlib.decompressobj(-15), 0, 0, 0, bytearray()
        while not inflating.eof:
            if not self._buffer:
                yield from self._more()
                continue
            given = bytes(self._buffer[:STEP_BYTES])
            del self._buffer[: len(given)]
            try:
                piece = inflating.decompress(given, STEP_BYTES)
            except zlib.error:
                raise malformed(f"The entry {entry.name[:80]!r} is damaged.", "body") from None
            back = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
            self._buffer[:0] = back
            read, size, sum_ = read + len(given) - len(back), size + len(piece), zlib.crc32(piece, sum_)
            self._count(entry, len(piece), size, read)
            self._keep(kept, piece, size)
        return bytes(kept), sum_, size

    def _until_descriptor(self, entry: _Entry) -> Generator[Item | None, None, tuple[bytes, int, int]]:
        """Read stored data whose size comes behind them: up to the descriptor that fits what came before it."""
        sum_, summed, at = 0, 0, 0
        while True:
            at = self._buffer.find(_DESCRIPTOR, at)
            if at < 0 or len(self._buffer) < at + 16:
                if len(self._buffer) > self._most_file_bytes + 64:
                    raise RequestError(BODY_TOO_LARGE, f"The entry {entry.name[:80]!r} is too large.", field="body")
                at = max(summed, len(self._buffer) - 3) if at < 0 else at
                yield from self._more()
                continue
            # Summed once from candidate to candidate: a file full of them must not be summed again for each.
            sum_, summed = zlib.crc32(self._buffer[summed:at], sum_), at
            crc, packed, size = struct.unpack_from("<III", self._buffer, at + 4)
            if (crc, packed, size) == (sum_, at, at):
                data = bytes(self._buffer[:at])
                del self._buffer[: at + 16]
                entry.crc, entry.size = crc, size
                self._count(entry, size, size, size)
                return data, sum_, size
            at += 1

    def _descriptor(self, entry: _Entry) -> Generator[Item | None, None, None]:
        """Read what follows data whose size was not known before: with a signature or without, short or long."""
        first = yield from self._take(4)
        crc = (yield from self._take(4)) if first == _DESCRIPTOR else first
        entry.crc = int.from_bytes(crc, "little")
        yield from self._take(8)
        while len(self._buffer) < 4:
            yield from self._more()
        if bytes(self._buffer[:4]) not in (_LOCAL, _CENTRAL):
            yield from self._take(8)  # sizes of eight bytes each

    def _count(self, entry: _Entry, more: int, size: int, packed: int) -> None:
        self._expanded += more
        if size > FREE_BYTES and size > MOST_RATIO * max(1, packed):
            message = (
                f"The entry {entry.name[:80]!r} expands to more than {MOST_RATIO} times its size; no photograph does."
            )
            raise RequestError(BODY_TOO_LARGE, message, field="body")
        if self._expanded > self._most_bytes:
            message = f"The zip expands to more than the {self._most_bytes} bytes that a batch may have."
            raise RequestError(BODY_TOO_LARGE, message, field="body")

    def _keep(self, kept: bytearray, piece: bytes, size: int) -> None:
        if size > self._most_file_bytes:
            kept.clear()
        else:
            kept += piece

    def _item(self, entry: _Entry, data: bytes, sum_: int, size: int) -> Item:
        name = name_of(entry.name)
        if size > self._most_file_bytes:
            message = f"A photograph has at most {self._most_file_bytes} bytes, not {size}."
            return Item(name=name, error=RequestError(BODY_TOO_LARGE, message))
        if sum_ != entry.crc:
            return Item(name=name, error=invalid("The file is damaged: its checksum in the zip is another."))
        return Item(name=name, body=data)

    def _directory(self, mark: bytes) -> Generator[Item | None, None, int]:
        """Read the directory at the end; return how many entries it lists."""
        listed = 0
        while mark != _END:
            if mark == _CENTRAL:
                head = yield from self._take(42)
                yield from self._take(sum(struct.unpack_from("<HHH", head, 24)))
                listed += 1
            elif mark == _END_64:
                size = int.from_bytes((yield from self._take(8)), "little")
                if size > 65536:
                    raise malformed("The zip's directory cannot be read.", "body")
                yield from self._take(size)
            elif mark == _LOCATOR_64:
                yield from self._take(16)
            else:
                raise malformed("This is not a zip, or it is damaged.", "body")
            mark = yield from self._take(4)
        yield from self._take(18)
        return listed


def _check_name(name: str) -> None:
    """Refuse names that lead out of a folder: nothing is written under them here, but whoever made them means harm."""
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or ".." in parts or parts[0] == "" or _DRIVE.match(name):
        raise invalid(f"The entry {name[:80]!r} has a name that leads out of the zip's folder.", "body")


def _is_photograph(name: str) -> bool:
    """Say whether an entry is a file that its owner means."""
    parts = name.replace("\\", "/").split("/")
    return parts[-1] != "" and parts[0] != "__MACOSX" and not parts[-1].startswith(".")


def _sizes_64(extra: bytes, size: int, packed: int) -> tuple[int, int]:
    """Return the sizes that stand in the extra field, in eight bytes each."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            size = next(numbers, _UNKNOWN) if size == _UNKNOWN else size
            packed = next(numbers, _UNKNOWN) if packed == _UNKNOWN else packed
            return size, packed
        at += 4 + length
    raise malformed("An entry of the zip does not say its size.", "body")

"""Files that clients upload, in the result store [I/O].

A file lies there in pieces, and its description elsewhere, which is written last: what has none is no file. An id
begins with the time, so that ids alone say which files are the latest.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from producer_api.queue.admission import refusal
from producer_api.store.aside import StoreAside
from shared.results.store import StoreError, StoreFull, StoreMissing
from shared.wire.outcomes import (
    BODY_TOO_LARGE,
    NO_RESULT_STORE,
    NOT_FOUND,
    STORE_FULL,
    STORE_UNAVAILABLE,
    UPLOAD_LIMIT,
    RequestError,
)

PIECE_BYTES: Final = 4 * 1024 * 1024
LONGEST_KEEP_S: Final = 30 * 86_400
"""A file goes by itself after that, or earlier if its client says so."""

MOST_FILES: Final = 1000
"""Of a lane."""

_ROOT: Final = "files"
_MOST_DESCRIPTION_BYTES: Final = 64 * 1024
_ID: Final = re.compile(r"file-[0-9a-f]{24}\Z")


class FileRecord(Struct, frozen=True):
    """What is stored of a file. Times are seconds of the Unix epoch.

    Attributes:
        pieces: how many objects hold it.
    """

    id: str
    file_name: str
    purpose: str
    size_bytes: int
    pieces: int
    created_s: int
    expires_s: int


class Upload(NamedTuple):
    """What the client says of a file; ``keep_s`` is how long it stays, at most ``LONGEST_KEEP_S``."""

    file_name: str
    purpose: str
    keep_s: int


_records: Final = msgspec.json.Decoder(FileRecord)


class Files:
    """The files of all lanes.

    Args:
        store: None if there is none: then every call is refused.
        most_bytes: of a file.
    """

    def __init__(self, store: StoreAside | None, most_bytes: int) -> None:
        self._store, self.most_bytes = store, most_bytes

    @property
    def store(self) -> StoreAside:
        """The result store.

        Raises:
            RequestError: ``NO_RESULT_STORE``.
        """
        if self._store is None:
            raise RequestError(
                NO_RESULT_STORE, "Files need a result store: set HEADRACE_RESULTS to a folder or a bucket."
            )
        return self._store

    async def check_room(self, lane: str) -> None:
        """Refuse one more file if there are too many.

        Raises:
            RequestError: ``UPLOAD_LIMIT``, ``NO_RESULT_STORE``, ``STORE_UNAVAILABLE``.
        """
        if len(await self.ids(lane)) >= MOST_FILES:
            raise refusal(UPLOAD_LIMIT, f"There are {MOST_FILES} files already; delete some.")

    async def save(
        self, lane: str, pieces: AsyncIterator[bytes], described: Callable[[], Upload], now_s: int
    ) -> FileRecord:
        """Store a file as it comes.

        Args:
            described: says what it is, once all of it is here.

        Raises:
            RequestError: ``BODY_TOO_LARGE``, ``STORE_FULL``, ``STORE_UNAVAILABLE``; nothing of it is left.
        """
        file_id, size, count = f"file-{now_s:08x}{secrets.token_hex(8)}", 0, 0
        store, below, part = self.store, _pieces(lane, file_id), bytearray()
        try:
            async for piece in pieces:
                size += len(piece)
                if size > self.most_bytes:
                    raise RequestError(BODY_TOO_LARGE, f"A file has at most {self.most_bytes} bytes.", field="file")
                part += piece
                if len(part) >= PIECE_BYTES:
                    await store.put(f"{below}/{count:06d}", bytes(part), LONGEST_KEEP_S)
                    count += 1
                    part.clear()
            if part:
                await store.put(f"{below}/{count:06d}", bytes(part), LONGEST_KEEP_S)
                count += 1
            upload = described()
            record = FileRecord(file_id, upload.file_name, upload.purpose, size, count, now_s, now_s + upload.keep_s)
            await store.put(_description(lane, file_id), msgspec.json.encode(record), upload.keep_s)
        except BaseException as error:
            with suppress(StoreError):
                await store.delete_below(below)
            if isinstance(error, StoreError):
                raise _refused(error) from None
            raise
        return record

    async def find(self, lane: str, file_id: str) -> FileRecord:
        """Return the description of a file.

        Raises:
            RequestError: ``NOT_FOUND``, ``STORE_UNAVAILABLE``.
        """
        store = self.store
        if _ID.match(file_id) is None:
            raise unknown(file_id)
        try:
            found = await store.get(_description(lane, file_id), _MOST_DESCRIPTION_BYTES)
            return _records.decode(found)
        except (StoreMissing, msgspec.DecodeError):
            raise unknown(file_id) from None
        except StoreError as error:
            raise _refused(error) from None

    async def ids(self, lane: str) -> list[str]:
        """Return the ids of the files of a lane, the latest first."""
        try:
            found = await self.store.list(f"{_ROOT}/{lane}/about")
        except StoreError as error:
            raise _refused(error) from None
        return sorted((one.key.rpartition("/")[2] for one in found), reverse=True)

    async def delete(self, lane: str, file_id: str) -> None:
        """Delete a file.

        Raises:
            RequestError: ``NOT_FOUND``, ``STORE_UNAVAILABLE``.
        """
        await self.find(lane, file_id)
        try:
            await self.store.delete(_description(lane, file_id))
            await self.store.delete_below(_pieces(lane, file_id))
        except StoreError as error:
            raise _refused(error) from None

    async def pieces(self, lane: str, record: FileRecord) -> AsyncGenerator[bytes]:
        """Go through a file.

        Raises:
            RequestError: ``NOT_FOUND``, ``STORE_UNAVAILABLE``: it, or some of it, cannot be read.
        """
        for number in range(record.pieces):
            try:
                yield await self.store.get(f"{_pieces(lane, record.id)}/{number:06d}", 2 * PIECE_BYTES)
            except StoreMissing:
                raise unknown(record.id) from None
            except StoreError as error:
                raise _refused(error) from None


def unknown(file_id: str) -> RequestError:
    """Make the error for a file that is not there, or is another tenant's."""
    return RequestError(NOT_FOUND, f"There is no file {file_id[:80]!r}; its time may be over.", field="id")


def _refused(error: StoreError) -> RequestError:
    return refusal(STORE_FULL if isinstance(error, StoreFull) else STORE_UNAVAILABLE, str(error))


def _description(lane: str, file_id: str) -> str:
    return f"{_ROOT}/{lane}/about/{file_id}"


def _pieces(lane: str, file_id: str) -> str:
    return f"{_ROOT}/{lane}/pieces/{file_id}"

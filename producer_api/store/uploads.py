"""Large bodies that come in parts: begun, sent part by part in any order, completed, used, deleted.

All there is of an upload lies in the store, so any front end goes on with it::

    bodies/LANE/OWNER/ID/begun-BYTES    what was declared
    bodies/LANE/OWNER/ID/part-000001    …
    bodies/LANE/OWNER/ID/whole          what was checked when it was completed
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from shared.results.references import BODIES, SLACK_S, StoredBody, body_prefix, part_key
from shared.results.store import Found, Store, StoreError, StoreFull, StoreMissing
from shared.settings import Settings
from shared.wire.outcomes import (
    BODY_TOO_LARGE,
    STORE_FULL,
    STORE_UNAVAILABLE,
    UNKNOWN_UPLOAD,
    UPLOAD_STATE,
    RequestError,
    invalid,
)

from .aside import StoreAside
from .upload_limits import BEGUN, check, uses_of

PART_BYTES: Final = 8 << 20
MOST_PARTS: Final = 1024
MOST_STATE_BYTES: Final = 64 * 1024
COMPLETE_TIMEOUT_S: Final = 120.0
"""For reading a whole body to check it."""

WHOLE: Final = "whole"
ID_PATTERN = re.compile(r"[0-9a-f]{32}\Z")


class Owner(Struct, frozen=True):
    """Whose uploads: an API key stands behind ``name``, and its requests go to ``lane``."""

    name: str
    lane: str


class Begun(Struct, frozen=True):
    """What was declared when an upload began.

    Attributes:
        expires_s: end of its time, in seconds of the Unix epoch.
        sha256: None where it was not declared.
    """

    bytes: int
    part_bytes: int
    expires_s: float
    sha256: str | None = None

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return -(-self.bytes // self.part_bytes)

    def length(self, number: int) -> int:
        """Return the length of a part."""
        return min(self.part_bytes, self.bytes - (number - 1) * self.part_bytes)


class Upload(Struct, frozen=True):
    """How an upload stands.

    Attributes:
        received: numbers of the parts that are here.
        sha256: as found when it was completed; None before.
    """

    id: str
    begun: Begun
    received: Sequence[int]
    sha256: str | None = None


class Uploads:
    """The uploads of all keys.

    Raises:
        RequestError: from every method: ``UNKNOWN_UPLOAD`` for what is not there or another key's,
            ``STORE_UNAVAILABLE``, and what the methods name.
    """

    def __init__(self, store: StoreAside, settings: Settings) -> None:
        self._store, self._keep_s = store, settings.upload_s
        self._most_bytes = settings.large_body_mb << 20
        self._most_per_key_bytes = settings.uploads_per_key_mb << 20
        self._most_in_total_bytes = settings.uploads_mb << 20
        self.part_bytes = min(PART_BYTES, settings.max_body_bytes)
        self._counting = asyncio.Lock()

    async def begin(self, owner: Owner, size_bytes: int, sha256: str | None, part_bytes: int | None = None) -> Upload:
        """Begin an upload.

        Args:
            part_bytes: of each part but the last; None for the usual size.

        Raises:
            RequestError: ``BODY_TOO_LARGE``, ``INVALID_INPUT``, ``UPLOAD_LIMIT``, ``STORE_FULL``.
        """
        part_bytes = self.part_bytes if part_bytes is None else part_bytes
        if part_bytes > self.part_bytes:
            raise invalid(f"A part has at most {self.part_bytes} bytes.", "part_bytes")
        begun = Begun(size_bytes, part_bytes, time.time() + self._keep_s, sha256)
        if size_bytes > self._most_bytes or begun.parts > MOST_PARTS:
            raise too_large(min(self._most_bytes, MOST_PARTS * part_bytes))
        upload_id = secrets.token_hex(16)
        prefix = body_prefix(owner.lane, owner.name, upload_id)
        async with self._counting:
            await self.check_room(owner, size_bytes)
            await self._put(f"{prefix}/{BEGUN}{size_bytes}", msgspec.json.encode(begun), begun)
        return Upload(upload_id, begun, ())

    async def check_room(self, owner: Owner, size_bytes: int) -> None:
        """Let one more body pass.

        Raises:
            RequestError: ``UPLOAD_LIMIT``.
        """
        with _errors():
            uses = await self._store.run(lambda store: uses_of(store.list(BODIES)))
        check(uses, owner.name, size_bytes, self._most_per_key_bytes, self._most_in_total_bytes)

    async def find(self, owner: Owner, upload_id: str) -> Upload:
        """Return how an upload stands."""
        prefix = _prefix(owner, upload_id)
        with _errors():
            return await self._store.run(lambda store: _read(store, prefix, upload_id))

    async def put(self, owner: Owner, upload_id: str, number: int, part: bytes) -> None:
        """Store a part; once more is allowed until the upload is completed.

        Raises:
            RequestError: ``INVALID_INPUT``, ``UPLOAD_STATE``, ``STORE_FULL``.
        """
        upload = await self.find(owner, upload_id)
        begun = upload.begun
        if upload.sha256 is not None:
            raise RequestError(UPLOAD_STATE, "The upload is complete, so its parts can no longer change.")
        if not 1 <= number <= begun.parts:
            raise invalid(f"The upload has the parts 1 to {begun.parts}.", "number")
        if len(part) != begun.length(number):
            raise invalid(f"Part {number} has {begun.length(number)} bytes, not {len(part)}.", "body")
        await self._put(part_key(_prefix(owner, upload_id), number), part, begun)

    async def complete(self, owner: Owner, upload_id: str) -> Upload:
        """Check a whole upload; once more changes nothing.

        Raises:
            RequestError: ``UPLOAD_STATE``: parts are missing; ``INVALID_INPUT``: its SHA-256 is another than declared.
        """
        upload, prefix = await self.find(owner, upload_id), _prefix(owner, upload_id)
        begun = upload.begun
        if upload.sha256 is not None:
            return upload
        missing = sorted(set(range(1, begun.parts + 1)) - set(upload.received))
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
            raise RequestError(UPLOAD_STATE, f"Parts are missing: {shown}.", field="parts")
        with _errors():
            sha256 = await self._store.run(lambda store: _digest(store, prefix, begun), COMPLETE_TIMEOUT_S)
        if begun.sha256 is not None and begun.sha256 != sha256:
            raise invalid(f"The body's SHA-256 is {sha256}, and {begun.sha256} was declared.", "sha256")
        await self._put(f"{prefix}/{WHOLE}", sha256.encode(), begun)
        return msgspec.structs.replace(upload, sha256=sha256)

    async def use(self, owner: Owner, upload_id: str, keep_s: float) -> StoredBody:
        """Return where a completed upload is, and keep it for at least ``keep_s`` seconds.

        Raises:
            RequestError: ``UPLOAD_STATE``: it is not complete.
        """
        upload, prefix = await self.find(owner, upload_id), _prefix(owner, upload_id)
        begun, sha256 = upload.begun, upload.sha256
        if sha256 is None:
            raise RequestError(UPLOAD_STATE, "The upload is not complete.", field="reference.upload")
        if begun.expires_s < time.time() + keep_s:
            keys = [part_key(prefix, number) for number in range(1, begun.parts + 1)]
            with _errors():
                await self._store.run(lambda store: _keep(store, keys, keep_s))
        return StoredBody(owner.name, upload_id, begun.parts, begun.bytes, sha256)

    async def delete(self, owner: Owner, upload_id: str) -> None:
        """Delete an upload with all its parts."""
        prefix = _prefix(owner, upload_id)
        with _errors():
            if not await self._store.delete_below(prefix):
                raise StoreMissing

    async def _put(self, key: str, data: bytes, begun: Begun) -> None:
        with _errors():
            await self._store.put(key, data, max(1.0, begun.expires_s - time.time()))


def too_large(most_bytes: int) -> RequestError:
    """Make the error for a body that is larger than any."""
    return RequestError(BODY_TOO_LARGE, f"A large body may have at most {most_bytes} bytes.", field="bytes")


class _errors:
    """Turn errors of the store into those of requests."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StoreMissing):
            raise RequestError(UNKNOWN_UPLOAD, "There is no such upload of your key, or its time is over.") from None
        if isinstance(error, StoreFull):
            raise RequestError(STORE_FULL, "The result store is full; come again later.", retry_after_s=30) from None
        if isinstance(error, StoreError):
            raise RequestError(STORE_UNAVAILABLE, "The result store does not answer; try again.") from error


def _prefix(owner: Owner, upload_id: str) -> str:
    if not ID_PATTERN.match(upload_id):
        raise RequestError(UNKNOWN_UPLOAD, "There is no such upload of your key, or its time is over.")
    return body_prefix(owner.lane, owner.name, upload_id)


def _read(store: Store, prefix: str, upload_id: str) -> Upload:
    objects: Sequence[Found] = list(store.list(prefix))
    names = [found.key.removeprefix(f"{prefix}/") for found in objects]
    first = next((name for name in names if name.startswith(BEGUN)), None)
    if first is None:
        raise StoreMissing
    begun = msgspec.json.decode(store.get(f"{prefix}/{first}", MOST_STATE_BYTES), type=Begun)
    received = [int(name.removeprefix("part-")) for name in names if name.startswith("part-")]
    sha256 = store.get(f"{prefix}/{WHOLE}", 64).decode() if WHOLE in names else None
    return Upload(upload_id, begun, received, sha256)


def _digest(store: Store, prefix: str, begun: Begun) -> str:
    digest = hashlib.sha256()
    for number in range(1, begun.parts + 1):
        digest.update(store.get(part_key(prefix, number), begun.length(number)))
    return digest.hexdigest()


def _keep(store: Store, keys: Sequence[str], keep_s: float) -> None:
    for key in keys:
        store.keep(key, keep_s + SLACK_S)

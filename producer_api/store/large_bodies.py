"""Large bodies as the rest of the front end sees them: from a reference to the member ``at_store`` of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from producer_api.auth import Client
from producer_api.net.egress import Egress
from shared.keys import DEFAULT_LANE
from shared.results.references import StoredBody, owner_of
from shared.settings import Settings
from shared.wire.messages import Request
from shared.wire.outcomes import REFERENCE_REFUSED, RequestError, invalid

from .aside import StoreAside
from .fetching import Fetching
from .reference import Reference
from .sources import FileSource, UrlSource, refused
from .uploads import Owner, Uploads

if TYPE_CHECKING:
    from .s3_source import S3Source

RUNS_S = 60.0
"""How long a body stays for a request beyond the time in which it must begin: it may run long, or be taken over."""


class LargeBodies:
    """Uploads, and bodies that are fetched.

    Args:
        store: None where there is none: then no reference is followed.

    Attributes:
        uploads: bodies that come in parts; None without a store.
    """

    def __init__(self, store: StoreAside | None, settings: Settings, egress: Egress) -> None:
        self._most_bytes = settings.large_body_mb << 20
        self.uploads = self._fetching = None
        if store is not None:
            self.uploads = Uploads(store, settings)
            self._fetching = Fetching(store, self._most_bytes, self.uploads.part_bytes)
        origins, folders = settings.reference_origins, settings.reference_folders
        self._url = None if origins is None else UrlSource(egress, origins)
        self._file = None if folders is None else FileSource(folders)
        self._s3: S3Source | None = None
        if settings.reference_buckets is not None:
            from .s3_source import S3Source  # it needs boto3

            self._s3 = S3Source(settings.reference_buckets)

    async def brought(self, request: Request, reference: Reference, client: Client | None, lane: str) -> Request:
        """Return a request whose body is in the store, and stays there as long as it may run.

        Args:
            lane: that the request goes to; consumers look for the body among those of this lane.

        Raises:
            RequestError: the reference is not followed, or leads to no body.
        """
        owner = owner_for(client)
        if lane != owner.lane and reference.upload is not None:
            message = "An upload is for requests of your own lane; send the body itself, or a reference to a URL."
            raise RequestError(REFERENCE_REFUSED, message, field="reference.upload")
        place = await self._place(reference, Owner(owner.name, lane), request.ttl_ms / 1000 + RUNS_S)
        return msgspec.structs.replace(request, at_store=place.text())

    async def _place(self, reference: Reference, owner: Owner, keep_s: float) -> StoredBody:
        if self.uploads is None or self._fetching is None:
            message = "This front end has no result store (HEADRACE_RESULTS), so it takes no body by reference."
            raise RequestError(REFERENCE_REFUSED, message, field="reference")
        if reference.upload is not None:
            found = await self.uploads.use(owner, reference.upload, keep_s)
            if reference.bytes not in (None, found.size_bytes):
                raise invalid(f"The upload has {found.size_bytes} bytes.", "reference.bytes")
            if reference.sha256 not in (None, found.sha256):
                raise invalid(f"The upload's SHA-256 is {found.sha256}.", "reference.sha256")
            return found
        if reference.url is not None and self._url is not None:
            pieces = self._url.pieces(reference.url, self._most_bytes)
        elif reference.file is not None and self._file is not None:
            pieces = self._file.pieces(reference.file, self._most_bytes)
        elif reference.s3 is not None and self._s3 is not None:
            pieces = self._s3.pieces(reference.s3, self._most_bytes)
        else:
            raise refused(f"This front end fetches no bodies by {reference.kind}; upload it instead.", reference.kind)
        await self.uploads.check_room(owner, reference.bytes or 1)
        return await self._fetching.fetch(pieces, reference, owner, keep_s)


def owner_for(client: Client | None) -> Owner:
    """Return whose bodies those of an API key are; without keys everybody is one."""
    if client is None:
        return Owner(owner_of(b""), DEFAULT_LANE)
    return Owner(owner_of(client.key.digest), client.key.lane)

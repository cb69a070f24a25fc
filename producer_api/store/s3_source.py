"""Bodies in allowed buckets of S3 [I/O]. Imported only where a setting names buckets: it needs boto3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from shared.results.s3 import errors, make_client
from shared.results.store import StoreError, StoreMissing

from .sources import PIECE_BYTES, failed, refused

MOST_KEY_BYTES = 1024


class S3Source:
    """Reads objects with this process's credentials.

    Args:
        buckets: that clients may name.
    """

    def __init__(self, buckets: Sequence[str]) -> None:
        self._buckets, self._client = frozenset(buckets), make_client()

    async def pieces(self, address: str, most_bytes: int) -> AsyncIterator[bytes]:
        """Give an object piece by piece: one request, so all pieces are of the same version.

        Raises:
            RequestError: ``REFERENCE_REFUSED``, ``REFERENCE_FAILED``.
        """
        bucket, _, key = address.removeprefix("s3://").partition("/")
        if not address.startswith("s3://") or not key or len(key.encode()) > MOST_KEY_BYTES or not key.isprintable():
            raise refused("An object is named as s3://BUCKET/KEY.", "s3")
        if bucket not in self._buckets:
            raise refused(f"Bodies are not read from bucket {bucket[:63]} here (HEADRACE_REFERENCE_BUCKETS).", "s3")
        try:
            found = await asyncio.to_thread(self._opened, bucket, key)
        except StoreMissing:
            raise failed("There is no such object.", "s3") from None
        except StoreError as error:
            raise failed(str(error), "s3") from None
        size_bytes, body = found
        try:
            if size_bytes > most_bytes:
                raise failed(f"The object has {size_bytes} bytes, and at most {most_bytes} are read.", "s3")
            while piece := await asyncio.to_thread(self._read, body):
                yield piece
        except StoreError:
            raise failed("The object could not be read to its end.", "s3") from None
        finally:
            with suppress(OSError):
                body.close()

    def _read(self, body: Any) -> bytes:
        with errors("The object"):
            piece: bytes = body.read(PIECE_BYTES)
        return piece

    def _opened(self, bucket: str, key: str) -> tuple[int, Any]:
        with errors(f"Bucket {bucket}"):
            found = self._client.get_object(Bucket=bucket, Key=key)
        return found["ContentLength"], found["Body"]

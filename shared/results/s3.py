"""A result store in a bucket of S3, or of anything that speaks its protocol [I/O].

An object lies below ``o/`` and says in its metadata when its time is over. A marker of no bytes below ``e/``, filed by
the hour in which that is, lets a sweep find what is over without looking at everything else.

Credentials, region and endpoint are boto3's own: the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL_S3``, …),
its files, or the role of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
import botocore.exceptions
from botocore.config import Config

from .store import Found, StoreError, StoreFull, StoreMissing, StoreTooLarge, parts_of

CONNECT_S: Final = 3
READ_S: Final = 10
TRIES: Final = 2

_EXPIRES = "headrace-expires"
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_FULL = frozenset({"507", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "SlowDownWrite"})


def make_client() -> Any:
    """Make a client that gives up soon; any thread may use it."""
    retries = {"total_max_attempts": TRIES, "mode": "standard"}
    config = Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries=retries, max_pool_connections=32)
    try:
        return boto3.client("s3", config=config)
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"S3 cannot be used: {error}.") from None


@contextmanager
def errors(label: str) -> Iterator[None]:
    """Turn what boto3 raises into errors of a store.

    Args:
        label: names what was asked.
    """
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in _ABSENT:
            raise StoreMissing(f"{label} has nothing of this name.") from None
        if code in _FULL or status == 507:
            raise StoreFull(f"{label} is full: {code}.") from None
        raise StoreError(f"{label} refuses: {code}.") from None
    except botocore.exceptions.BotoCoreError as error:
        raise StoreError(f"{label} does not answer: {type(error).__name__}.") from None


class S3Store:
    """Keeps objects in a bucket, see :class:`shared.results.store.Store`.

    Args:
        prefix: of all keys, without a slash at its end; empty for none.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._client, self._bucket = make_client(), bucket
        self._root = f"{prefix}/" if prefix else ""
        self._label = f"The result store s3://{bucket}/{prefix}"

    def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Write the marker first: one without an object does no harm."""
        name, expires_s = self._name(key), time.time() + keep_s
        with errors(self._label):
            self._mark(key, expires_s)
            self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, Metadata={_EXPIRES: str(round(expires_s, 3))}
            )

    def get(self, key: str, most_bytes: int) -> bytes:
        """Read an object."""
        with errors(self._label):
            found = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            with found["Body"] as body:
                if _expires_s(found) <= time.time():
                    raise StoreMissing(f"{self._label} has no {key}.")
                if found["ContentLength"] > most_bytes:
                    raise StoreTooLarge(f"{key} has {found['ContentLength']} bytes, and at most {most_bytes} are read.")
                data: bytes = body.read()
        return data

    def keep(self, key: str, keep_s: float) -> None:
        """Copy an object onto itself, with another end."""
        name, expires_s = self._name(key), time.time() + keep_s
        with errors(self._label):
            found = self._client.head_object(Bucket=self._bucket, Key=name)
            if _expires_s(found) <= time.time():
                raise StoreMissing(f"{self._label} has no {key}.")
            if _expires_s(found) < expires_s:
                self._mark(key, expires_s)
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=name,
                    CopySource={"Bucket": self._bucket, "Key": name},
                    Metadata={_EXPIRES: str(round(expires_s, 3))},
                    MetadataDirective="REPLACE",
                )

    def delete(self, key: str) -> bool:
        """Delete an object; its marker goes with a sweep."""
        name = self._name(key)
        try:
            with errors(self._label):
                self._client.head_object(Bucket=self._bucket, Key=name)
                self._client.delete_object(Bucket=self._bucket, Key=name)
        except StoreMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[Found]:
        """Go through the objects, a thousand at a time."""
        root = f"{self._root}o/"
        for found in self._objects(f"{self._name(prefix)}/" if prefix else root):
            yield Found(found["Key"].removeprefix(root), found["Size"], None)

    def sweep(self, now_s: float) -> int:
        """Look at the markers of the hours that are over."""
        root, removed = f"{self._root}e/", 0
        for marker in self._objects(root):
            hour, _, key = marker["Key"].removeprefix(root).partition("/")
            if hour >= _hour(now_s):
                break
            removed += self._is_over(key, now_s) and self.delete(key)
            with errors(self._label):
                self._client.delete_object(Bucket=self._bucket, Key=marker["Key"])
        return removed

    def _is_over(self, key: str, now_s: float) -> bool:
        try:
            with errors(self._label):
                return _expires_s(self._client.head_object(Bucket=self._bucket, Key=self._name(key))) <= now_s
        except StoreMissing:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _name(self, key: str) -> str:
        return f"{self._root}o/{'/'.join(parts_of(key))}"

    def _mark(self, key: str, expires_s: float) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"{self._root}e/{_hour(expires_s)}/{key}", Body=b"")

    def _objects(self, prefix: str) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            with errors(self._label):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **token)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}


def _expires_s(found: Any) -> float:
    """Return when an object is over: at once, if somebody else put it there."""
    try:
        return float(found["Metadata"][_EXPIRES])
    except (KeyError, ValueError):
        return 0.0


def _hour(time_s: float) -> str:
    return time.strftime("%Y%m%d%H", time.gmtime(time_s))

"""Opens the result store that the settings name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.settings import Settings, SettingsError

from .folder import FolderStore
from .store import Found, Store

OFF: Final = "off"
S3: Final = "s3://"


def check_store(settings: Settings) -> None:
    """Check what can be checked before a store is used.

    Raises:
        SettingsError: S3 is asked for, and boto3 is not installed.
    """
    asks = {"HEADRACE_RESULTS": (settings.results or "").startswith(S3)}
    asks["HEADRACE_REFERENCE_BUCKETS"] = settings.reference_buckets is not None
    for name, asked in asks.items():
        if asked and find_spec("boto3") is None:
            raise SettingsError(f"{name} needs boto3: pip install -c constraints.txt --group s3.")


def open_store(settings: Settings) -> Store | None:
    """Return the result store of ``HEADRACE_RESULTS``, None where none is set.

    It is opened when it is first used, and again until that succeeds: a disk that is away keeps no process from
    starting, and what needs the store gets a ``StoreError``.
    """
    place = settings.results
    if place is None or place == OFF:
        return None
    if place.startswith(S3):
        return OpenedWhenUsed(lambda: _bucket(place))
    return OpenedWhenUsed(lambda: FolderStore(Path(place), settings.results_mb << 20))


def _bucket(place: str) -> Store:
    from .s3 import S3Store  # boto3 takes a quarter of a second and 20 MB

    bucket, _, prefix = place.removeprefix(S3).partition("/")
    return S3Store(bucket, prefix.rstrip("/"))


class OpenedWhenUsed:
    """A store that is opened by the first call."""

    def __init__(self, open_it: Callable[[], Store]) -> None:
        self._open_it = open_it
        self._lock = threading.Lock()
        self._opened: Store | None = None

    def _store(self) -> Store:
        opened = self._opened
        if opened is None:
            with self._lock:
                opened = self._opened = self._opened or self._open_it()
        return opened

    def put(self, key: str, data: bytes, keep_s: float) -> None:
        """See the interface."""
        self._store().put(key, data, keep_s)

    def get(self, key: str, most_bytes: int) -> bytes:
        """See the interface."""
        return self._store().get(key, most_bytes)

    def keep(self, key: str, keep_s: float) -> None:
        """See the interface."""
        self._store().keep(key, keep_s)

    def delete(self, key: str) -> bool:
        """See the interface."""
        return self._store().delete(key)

    def list(self, prefix: str) -> Iterator[Found]:
        """See the interface."""
        return self._store().list(prefix)

    def sweep(self, now_s: float) -> int:
        """See the interface."""
        return self._store().sweep(now_s)

    def close(self) -> None:
        """See the interface."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

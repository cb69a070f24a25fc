"""Opens the result store that the settings name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from shared.settings import Settings

from .folder import FolderStore
from .store import Found, Store

OFF: Final = "off"


def open_store(settings: Settings) -> Store | None:
    """Return the result store of ``HEADRACE_RESULTS``, None where none is set.

    It is opened when it is first used, and again until that succeeds: a disk that is away keeps no process from
    starting, and what needs the store gets a ``StoreError``.
    """
    place = settings.results
    if place is None or place == OFF:
        return None
    return OpenedWhenUsed(lambda: FolderStore(Path(place), settings.results_mb << 20))


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

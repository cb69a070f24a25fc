"""Opens the result store that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shared.settings import Settings

from .folder import FolderStore
from .store import Store

OFF: Final = "off"


def open_store(settings: Settings) -> Store | None:
    """Return the result store of ``HEADRACE_RESULTS``, None where none is set.

    Raises:
        StoreError: it cannot be opened.
    """
    if settings.results is None or settings.results == OFF:
        return None
    return FolderStore(Path(settings.results), settings.results_mb << 20)

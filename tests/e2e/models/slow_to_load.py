"""A model that echoes, and waits while it loads for a file to be there: ``options["file"]``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from consumer.models.base import Model
from tests.e2e.models.lively import Lively


class SlowToLoad(Lively):
    """Says on standard output that it waits."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._file = Path(options["file"])
        super().__init__({"folder": self._file.parent})

    def load(self, device: str, precision: str) -> None:
        """Wait for the file."""
        print("It waits to be loaded.", flush=True)
        while not self._file.exists():
            threading.Event().wait(0.01)


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return SlowToLoad(options)


def models_file(folder: Path, model: str, gate: Path) -> Path:
    """Write a ``models.toml`` with this model, which loads once there is a file ``gate``."""
    path, entry = folder / "models.toml", f"{__name__}:create"
    path.write_text(f'[models.{model}]\nfamily = "python"\nentry = "{entry}"\noptions = {{ file = "{gate}" }}\n')
    return path

"""What a pickle can do to whoever reads it; without PyTorch, for the tests that need nothing else of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))

"""Hatch calls this when it builds a wheel: the tree that goes into it is made here."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))

from rewriting import HOME, INSIDE, rewritten

OUTSIDE = "headrace"
DATA = ("models.toml", "examples/photos/cat.jpg")
"""Files of a checkout's top that are read when the program runs."""


class Rewriting(BuildHookInterface[Any]):
    """Puts all packages inside ``headrace``; an editable install takes the checkout as it is."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the tree."""
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-wheel-"))
        root, inner = Path(self.root), self._folder.joinpath(*HOME.split("."))
        for package in INSIDE:
            _copy(root / package, inner / package)
        _copy(root / OUTSIDE, self._folder / OUTSIDE)
        (inner / "__init__.py").write_text('"""Not for import: nothing in here keeps its name or its form."""\n')
        for name in DATA:
            (inner / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, inner / name)
        build_data["force_include"][str(self._folder / OUTSIDE)] = OUTSIDE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the tree."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def _copy(package: Path, target: Path) -> None:
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            place = target / path.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".py":
                place.write_text(rewritten(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")
            else:
                shutil.copyfile(path, place)

"""Packages that only carry a model: where their files are. They are not imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path


def folders_of(name: str) -> Sequence[Path]:
    """Return the folders of the installed package ``name``; none if it is not installed, or is no package."""
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    found = None if spec is None else spec.submodule_search_locations
    return [Path(folder) for folder in found or ()]
